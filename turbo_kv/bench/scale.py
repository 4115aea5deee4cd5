"""Which scale to store beside a vector's codes: four rules, compared by next-token KL.

A vector x of norm n, rotated to the unit direction y, is stored as the centroids c and one fp16
scale s, and restored as s·c (before un-rotation). The rules, same bytes all:

    matched norm    s = n / ‖c‖              the restored norm is right
    plain norm      s = n                    the codebook's own length, a little short
    least squares   s = n ⟨y, c⟩ / ‖c‖²      the smallest error, which shrinks the vector
    unbiased        s = n / ⟨y, c⟩           restored logits have slope 1, at more error

The library keeps matched norm; here the others replace its scales after it has coded. Knows
nothing of how the codes came about.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from turbo_kv.bench.live import CONTEXT
from turbo_kv.bench.own_quantizer import own_cache
from turbo_kv.bench.stamp import stamp
from turbo_kv.cache.kv_cache import TurboKVCache
from turbo_kv.measure.facts import longest_text, model_facts, text_facts
from turbo_kv.measure.next_token import compare
from turbo_kv.measure.quality import Quality, batch_means_stderr
from turbo_kv.models.load import load
from turbo_kv.models.progress import Progress, silent
from turbo_kv.models.text import DEFAULT_SOURCE, prepare
from turbo_kv.quant.config import BITS, QuantConfig
from turbo_kv.quant.packing import PackedVectors
from turbo_kv.quant.quantizer import TurboQuantizer

Rule = Callable[[Tensor, Tensor, Tensor], Tensor]
"""n (..., 1), ⟨y, c⟩ (..., 1) and ‖c‖ (..., 1) to the scale (..., 1)."""

RULES: dict[str, Rule] = {
    "matched norm": lambda norm, _agreement, length: norm / length,
    "plain norm": lambda norm, _agreement, _length: norm,
    "least squares": lambda norm, agreement, length: norm * agreement / length**2,
    "unbiased": lambda norm, agreement, _length: norm / agreement,
}


@dataclass(frozen=True)
class Row:
    """One rule at one width.

    excess, excess_stderr: KL beyond that of the first rule, in nats, from differences of the same
    predictions: two rules are much nearer to each other than either is to exact.
    """

    rule: str
    bits: int
    quality: Quality
    excess: float
    excess_stderr: float


class RescaledQuantizer(TurboQuantizer):
    """Codes as the library does, then stores the scale of another rule; without a sketch."""

    def __init__(self, head_dim: int, config: QuantConfig, device: torch.device, rule: Rule):
        super().__init__(head_dim, config, device)
        self.rule = rule

    def quantize(self, x: Tensor) -> PackedVectors:
        """As `TurboQuantizer.quantize`, with scales of this rule."""
        packed = super().quantize(x)
        rotated = self.rotate(x)
        norm = rotated.norm(dim=-1, keepdim=True)
        chosen = self.dequantize_rotated(replace(packed, scales=torch.ones_like(packed.scales)))
        direction = rotated / norm.clamp_min(torch.finfo(torch.float32).tiny)
        agreement = (direction * chosen).sum(-1, keepdim=True)
        # A zero vector has no direction to agree with, and needs no scale.
        scales = self.rule(norm, agreement.where(norm > 0, 1), chosen.norm(dim=-1, keepdim=True))
        return replace(packed, scales=scales.squeeze(-1).half())


def run(
    source: str = DEFAULT_SOURCE,
    model: str = "tiny",
    context: int = CONTEXT,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Every rule at every width, through the live cache; the stamped result."""
    loaded = load(model)
    prepared = prepare(loaded.tokenizer, None, context, longest_text(loaded), source)
    tokens = prepared.tokens.to(loaded.device)
    rows: list[Row] = []
    for bits in BITS:
        first = None
        for name, rule in RULES.items():
            progress(len(rows) / (len(BITS) * len(RULES)), f"{source}: {name}, {bits} bits")
            cache = rescaled_cache(loaded.model.config, QuantConfig(bits=bits), rule)
            made = compare(loaded.model, tokens, cache).predictions
            first = made.kl if first is None else first
            excess = made.kl - first
            rows.append(
                Row(name, bits, Quality.of(made), float(excess.mean()), batch_means_stderr(excess))
            )
    return {
        "stamp": stamp(),
        "model": asdict(model_facts(loaded)),
        "text": asdict(text_facts(prepared)),
        "tokens": tokens.shape[1],
        "rows": [asdict(row) for row in rows],
    }


def rescaled_cache(config: Any, quant: QuantConfig, rule: Rule) -> TurboKVCache:
    """A cache that reads every token back, keys and values scaled by `rule`."""
    return own_cache(
        config, quant, lambda head_dim, device: RescaledQuantizer(head_dim, quant, device, rule)
    )
