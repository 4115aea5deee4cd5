"""One row of the family table: one model at one context, everything that is measured of it.

A row of random weights (a model named "shape:...") has memory and seconds alone. Knows nothing of
other rows, nor of files.
"""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch

from turbo_kv.bench.evaluation_text import EvaluationText, cut
from turbo_kv.bench.process import peak_bytes
from turbo_kv.bench.shapes import PREFIX, measure_shape
from turbo_kv.bench.storing import Storing
from turbo_kv.cache.attending import attending
from turbo_kv.cache.attention import NAME as PACKED_ATTENTION
from turbo_kv.cache.kv_cache import TurboKVCache
from turbo_kv.measure.analyze import Prepared, measure, read
from turbo_kv.measure.cosines import Side, cosines
from turbo_kv.measure.facts import longest_text
from turbo_kv.measure.next_token import Predictions, compare
from turbo_kv.measure.quality import Quality
from turbo_kv.measure.report import Report
from turbo_kv.measure.roundtrip import roundtrip
from turbo_kv.models.catalog import CATALOG, card
from turbo_kv.models.device import choose_device, choose_dtype
from turbo_kv.models.load import LoadedModel, load
from turbo_kv.models.progress import Progress, silent
from turbo_kv.quant.centering import Center
from turbo_kv.quant.config import QuantConfig


@dataclass(frozen=True)
class Job:
    """What one row is about.

    model: as `load` takes it, or a catalog name behind "shape:". device: "cpu", "cuda" or "mps".
    """

    model: str
    context: int
    device: str
    text: EvaluationText
    config: QuantConfig

    @property
    def random(self) -> bool:
        """Whether the weights are random, of exact shapes."""
        return self.model.startswith(PREFIX)

    @property
    def identity(self) -> dict[str, Any]:
        """What tells this row from every other, as it stands in the row."""
        text = {"name": self.text.name, "sha256": self.text.sha256, "windows": self.text.windows}
        return {
            "model": self.model.removeprefix(PREFIX),
            "weights": "random" if self.random else "trained",
            "context": self.context,
            "device": self.device,
            "text": None if self.random else text,
            "config": self.config.to_dict(),
        }


@dataclass(frozen=True)
class Measured:
    """The figures of one row; those that random weights would make meaningless are None.

    memory: bytes held by the live cache against bf16. seconds: capture (one prefill that keeps all
    states), quantize (all of them into the live cache), exact and packed (all forwards).
    peak_bytes: of the process on a CPU, of its allocations on CUDA.
    cosine: keys and values, by every definition. attention: over the last 256 queries.
    quality: next tokens through the live cache, over all `windows`, each read afresh; the other
    figures are those of the first one.
    """

    dtype: str
    memory: dict[str, Any]
    seconds: dict[str, float]
    peak_bytes: int
    windows: int | None = None
    cosine: dict[str, dict[str, float]] | None = None
    attention: dict[str, float] | None = None
    quality: dict[str, Any] | None = None


NOTHING = dict.fromkeys(field.name for field in fields(Measured))
"""The figures of a row that could not be measured."""


def measure_row(job: Job, progress: Progress = silent) -> dict[str, Any]:
    """The figures of one row. Raises ValueError for what cannot be had or does not fit."""
    if job.random:
        known = card(job.model.removeprefix(PREFIX))
        parts = measure_shape(known, job.context, job.device, job.config, progress)
        return asdict(Measured(**parts))
    if job.model in CATALOG:  # before anything is downloaded
        choose_dtype(choose_device(job.device), CATALOG[job.model].params)
    return asdict(_measure_trained(job, progress))


def _measure_trained(job: Job, progress: Progress) -> Measured:
    loaded = load(job.model, job.device, lambda done, said: progress(0.1 * done, said))
    longest = longest_text(loaded)
    if job.context > longest:
        raise ValueError(f"{loaded.name} reads at most {longest:,} tokens")
    text = cut(loaded.tokenizer, job.text, job.context)
    first = replace(text, tokens=text.tokens[:1])
    prepared = read(loaded, first, lambda done, said: progress(0.1 + 0.3 * done, said))
    progress(0.4, "Storing and comparing every layer")
    *_, report = measure(prepared, job.config)
    cosine, storing = _restored(prepared, job.config), Storing(loaded.model.config, job.config)
    layers = prepared.capture.layers
    storing.warm_up(layers[0].keys, layers[0].values)
    for index, layer in enumerate(layers):
        storing.layer(index, layer.keys, layer.values)
    seconds = {"capture": prepared.timing["capture"], "quantize": storing.seconds}
    del prepared, layers  # room for the predictions
    made, forwards = _predict(
        loaded, text.tokens, job.config, lambda done, said: progress(0.5 + 0.5 * done, said)
    )
    return Measured(
        dtype=report.model.dtype,
        memory=storing.memory(),
        seconds=seconds | forwards,
        peak_bytes=peak_bytes(job.device),
        windows=len(text.tokens),
        cosine=cosine,
        attention=_attention(report),
        quality=Quality.of(made).to_dict(),
    )


@torch.inference_mode()
def _restored(prepared: Prepared, config: QuantConfig) -> dict[str, dict[str, float]]:
    """Cosines of keys and of values by every definition."""
    captured, keys, values = prepared.capture, [], []
    cos, sin = captured.cos, captured.sin
    for index, layer in enumerate(captured.layers):
        restored = roundtrip(captured, index, config)
        exact = layer.keys.float(), layer.values.float()
        mean = Center.from_mean(*exact, cos, sin)
        keys.append(Side(exact[0], restored.keys, mean.key_offset(cos, sin)))
        values.append(Side(exact[1], restored.values, mean.value_offset()))
    return {"keys": cosines(keys), "values": cosines(values)}


def _attention(report: Report) -> dict[str, float]:
    correlation, kl = report.grid("logit_correlation"), report.grid("attention_kl")
    return {
        "queries": report.queries,
        "kl_mean": float(kl.mean()),
        "kl_max": float(kl.max()),
        "logit_correlation_mean": float(correlation.mean()),
        "logit_correlation_min": float(correlation.min()),
        "top1": float(report.grid("top1").mean()),
    }


def _predict(
    loaded: LoadedModel, windows: torch.Tensor, config: QuantConfig, progress: Progress
) -> tuple[Predictions, dict[str, float]]:
    """Next tokens of windows (N, T), each through caches of its own; seconds of the forwards."""
    made, seconds = [], {"exact": 0.0, "packed": 0.0}
    for index, window in enumerate(windows.to(loaded.device)):

        def tell(done: float, said: str, index: int = index) -> None:
            progress((index + done) / len(windows), f"Window {index + 1} of {len(windows)}: {said}")

        cache = TurboKVCache.for_model(loaded.model, config, read_back=True)
        with attending(loaded.model, PACKED_ATTENTION):
            result = compare(loaded.model, window[None], cache, progress=tell)
        made.append(result.predictions)
        seconds["exact"] += result.reference_seconds
        seconds["packed"] += result.quantized_seconds
    names = [field.name for field in fields(Predictions)]
    joined = (torch.cat([getattr(part, name) for part in made]) for name in names)
    return Predictions(*joined), seconds
