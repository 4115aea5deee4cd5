"""What was asked and what was measured: Request, LayerReport, Report, and their JSON form.

Plain data, in numpy. Knows neither torch nor where the numbers come from.
"""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from turbo_kv.quant.config import QuantConfig


@dataclass(frozen=True)
class Request:
    """One run of the straight line; the fields are `analyze`'s keywords and the page's form.

    model: "tiny", a catalog name, or a local folder.
    text: the prompt; None for the built-in text that `source` names.
    context: tokens to read, at most; a shorter text is measured at its own length.
    device: "auto", "cpu", "cuda", "mps", or "split" over several.
    dtype: "auto", "bf16", "fp16", "fp32"; "int8" or "int4" for weights in fewer bits.
    """

    model: str = "tiny"
    text: str | None = None
    context: int = 2048
    device: str = "auto"
    config: QuantConfig = field(default_factory=QuantConfig)
    source: str = "Python language reference"
    dtype: str = "auto"


@dataclass(frozen=True)
class ModelFacts:
    """The measured model. `weights_bytes` is what its parameters hold in memory."""

    name: str
    layers: int
    query_heads: int
    kv_heads: int
    head_dim: int
    device: str
    dtype: str
    weights_bytes: int


@dataclass(frozen=True)
class TextFacts:
    """The measured text: its name, SHA-256 (hex, of the UTF-8 used) and what was done to it."""

    name: str
    sha256: str
    characters: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class StoredBytes:
    """Bytes held in storage, by purpose; keys and values together."""

    codes: int = 0
    scales: int = 0
    signs: int = 0
    residual_norms: int = 0
    means: int = 0
    open_page: int = 0
    exact_window: int = 0

    @property
    def total(self) -> int:
        return sum(asdict(self).values())

    def __add__(self, other: "StoredBytes") -> "StoredBytes":
        return StoredBytes(
            *(getattr(self, f.name) + getattr(other, f.name) for f in fields(StoredBytes))
        )


@dataclass(frozen=True)
class LayerReport:
    """One layer's fidelity, each an average over tokens.

    Per KV head, `(H_kv,)`: cosines of full vectors, mean restored, and their squared error as a
    share of their energy. Per query head, `(H_q,)`: attention KL in nats (exact against packed),
    logit correlation with each query's own mean removed, share of queries whose strongest key is
    unchanged, and the relative L2 error of the attention output.
    """

    layer: int
    key_cosine: np.ndarray
    value_cosine: np.ndarray
    key_relative_mse: np.ndarray
    value_relative_mse: np.ndarray
    attention_kl: np.ndarray
    logit_correlation: np.ndarray
    top1: np.ndarray
    output_relative_error: np.ndarray
    before_bytes: int
    after: StoredBytes


@dataclass(frozen=True)
class Report:
    """Everything one run measured; partial while it streams, `complete` at the end.

    `before_bytes` counts K and V in bf16 whatever dtype the device computes in. `queries` is the
    number of last positions the attention figures cover. `path` names the code that ran and why.
    `timing` is in seconds.
    """

    model: ModelFacts
    text: TextFacts
    tokens: int
    config: QuantConfig
    queries: int
    path: str
    layers: tuple[LayerReport, ...] = ()
    timing: dict[str, float] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return len(self.layers) == self.model.layers

    @property
    def before_bytes(self) -> int:
        return sum(layer.before_bytes for layer in self.layers)

    @property
    def after(self) -> StoredBytes:
        return sum((layer.after for layer in self.layers), StoredBytes())

    @property
    def ratio(self) -> float:
        return self.before_bytes / self.after.total

    @property
    def bits_per_value(self) -> float:
        """Stored bits over stored values; bf16 spends 16."""
        return 16 / self.ratio

    def grid(self, name: str) -> np.ndarray:
        """One LayerReport field of every finished layer, `(layers, heads)`."""
        return np.stack([getattr(layer, name) for layer in self.layers])

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; `from_dict` reads it back."""
        return {
            "model": asdict(self.model),
            "text": asdict(self.text),
            "tokens": self.tokens,
            "config": self.config.to_dict(),
            "path": self.path,
            "timing": self.timing,
            "memory": {
                "before_bytes": self.before_bytes,
                "after_bytes": self.after.total,
                "ratio": self.ratio,
                "bits_per_value": self.bits_per_value,
                "stored": asdict(self.after),
                "per_layer": [asdict(layer.after) for layer in self.layers],
            },
            "keys": self._side("key"),
            "values": self._side("value"),
            "attention": {
                "queries": self.queries,
                "kl": _summary(self.grid("attention_kl"), "mean", "max"),
                "logit_correlation": _summary(self.grid("logit_correlation"), "mean", "min"),
                "output_relative_error": _summary(self.grid("output_relative_error"), "mean"),
                "top1": _summary(self.grid("top1"), "mean"),
            },
        }

    def _side(self, side: str) -> dict[str, Any]:
        return {
            "cosine": _summary(self.grid(f"{side}_cosine"), "mean", "median", "min"),
            "relative_mse": _summary(self.grid(f"{side}_relative_mse"), "mean", "max"),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Report":
        """Rebuild a report that `to_dict` wrote. Raises KeyError when a part is missing."""
        model, text = ModelFacts(**data["model"]), dict(data["text"])
        grids = {
            "key_cosine": data["keys"]["cosine"],
            "value_cosine": data["values"]["cosine"],
            "key_relative_mse": data["keys"]["relative_mse"],
            "value_relative_mse": data["values"]["relative_mse"],
            "attention_kl": data["attention"]["kl"],
            "logit_correlation": data["attention"]["logit_correlation"],
            "top1": data["attention"]["top1"],
            "output_relative_error": data["attention"]["output_relative_error"],
        }
        stored = data["memory"]["per_layer"]
        layers = tuple(
            LayerReport(
                layer=index,
                before_bytes=data["memory"]["before_bytes"] // len(stored),
                after=StoredBytes(**stored[index]),
                **{
                    name: np.asarray(grid["per_layer_head"][index], dtype=np.float32)
                    for name, grid in grids.items()
                },
            )
            for index in range(len(stored))
        )
        return cls(
            model=model,
            text=TextFacts(**text | {"notes": tuple(text["notes"])}),
            tokens=data["tokens"],
            config=QuantConfig(**data["config"]),
            queries=data["attention"]["queries"],
            path=data["path"],
            layers=layers,
            timing=data["timing"],
        )


def _summary(grid: np.ndarray, *statistics: str) -> dict[str, Any]:
    summary: dict[str, Any] = {name: float(getattr(np, name)(grid)) for name in statistics}
    return summary | {"per_layer_head": grid.tolist()}
