"""Perplexity measured through the live cache: every token attends to packed history.

A text goes through the model twice, in lock-step: with the model's own exact cache, and with a
`TurboKVCache` that reads every token back from its store. The tokens of the current chunk too:
attended exactly, as in a plain prefill, they would hide most of the error. Reads the text once and
keeps no logits; how predictions become figures is quality.py's.
"""

from dataclasses import asdict, dataclass
from typing import Any

from turbo_kv.cache.attending import attending
from turbo_kv.cache.attention import NAME as PACKED_ATTENTION
from turbo_kv.cache.kv_cache import TurboKVCache
from turbo_kv.cache.layer import DECODE_TOKENS
from turbo_kv.measure.facts import longest_text, model_facts, text_facts
from turbo_kv.measure.next_token import compare
from turbo_kv.measure.quality import Quality
from turbo_kv.measure.report import ModelFacts, StoredBytes, TextFacts
from turbo_kv.models.load import load
from turbo_kv.models.memory import explained, reading, refuse_unless_fits
from turbo_kv.models.placement import over_processes
from turbo_kv.models.progress import Progress, silent
from turbo_kv.models.text import prepare
from turbo_kv.quant.config import QuantConfig

CHUNK = 512
BF16_BITS = 16


@dataclass(frozen=True)
class PerplexityReport:
    """What one run measured.

    chunk: tokens per forward, after a first one that holds at least 256. path: what attention read.
    exact_window: how many of the newest tokens were not coded.
    before_bytes: all keys and values in bf16. after: bytes of storage held at the end of the text.
    Rates are in tokens per second of forward passes.
    """

    model: ModelFacts
    text: TextFacts
    tokens: int
    config: QuantConfig
    chunk: int
    exact_window: int
    path: str
    quality: Quality
    before_bytes: int
    after: StoredBytes
    reference_rate: float
    quantized_rate: float

    @property
    def ratio(self) -> float:
        return self.before_bytes / self.after.total

    @property
    def summary(self) -> str:
        """The finding in a sentence or two."""
        quality = self.quality
        exact, packed, change = quality.reference, quality.quantized, quality.change
        return (
            f"On {self.tokens:,} tokens of {self.text.name}, perplexity is "
            f"{exact.perplexity:.2f} ± {exact.stderr:.2f} exact and {packed.perplexity:.2f} packed "
            f"({change.relative:+.2%} ± {change.stderr:.2%}). KL {quality.kl.mean:.4f} nats on "
            f"average, {quality.kl.p99:.3f} in the worst hundredth; {quality.top1:.1%} of the "
            f"strongest next tokens unchanged, {quality.flips.lost:.1%} turned wrong and "
            f"{quality.flips.gained:.1%} turned right. {BF16_BITS / self.ratio:.2f} bits per value "
            f"({self.ratio:.2f}×); {self.reference_rate:,.0f} tokens/s exact, "
            f"{self.quantized_rate:,.0f} packed."
        )

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "model": asdict(self.model),
            "text": asdict(self.text),
            "tokens": self.tokens,
            "config": self.config.to_dict(),
            "chunk": self.chunk,
            "exact_window": self.exact_window,
            "path": self.path,
            **self.quality.to_dict(),
            "memory": {
                "before_bytes": self.before_bytes,
                "after_bytes": self.after.total,
                "ratio": self.ratio,
                "bits_per_value": BF16_BITS / self.ratio,
                "stored": asdict(self.after),
            },
            "tokens_per_second": {
                "reference": self.reference_rate,
                "quantized": self.quantized_rate,
            },
        }


def measure_perplexity(
    model: str = "tiny",
    text: str | None = None,
    context: int = 2048,
    *,
    device: str = "auto",
    dtype: str = "auto",
    config: QuantConfig | None = None,
    chunk: int = CHUNK,
    exact_window: int = 0,
    progress: Progress = silent,
) -> PerplexityReport:
    """Predict every token of a text but the first, exactly and from the packed cache.

    The keywords are `analyze`'s. chunk: tokens per forward; 1 decodes token by token, as generation
    does, and reads the packed storage itself. exact_window: as `TurboKVCache` has it; a chunk is no
    longer than that, so that no more tokens are seen exactly than in decoding.
    Raises ValueError for what cannot be loaded, read or stored.
    """
    config = config or QuantConfig()
    chunk = min(chunk, exact_window or chunk)
    loaded = load(model, device, lambda done, said: progress(0.2 * done, said), dtype=dtype)
    prepared = prepare(loaded.tokenizer, text, context, longest_text(loaded))
    tokens = prepared.tokens.shape[1]
    need = reading(loaded.model.config.get_text_config(), loaded.dtype.itemsize, caches=2)
    refuse_unless_fits(need, tokens, loaded.device, "reading them with two caches")
    windowed = {"exact_window": exact_window, "read_back": True}
    cache = TurboKVCache.for_model(loaded.model, config, **windowed)
    doing = f"predicting {tokens:,} tokens"
    with attending(loaded.model, PACKED_ATTENTION), explained(loaded.device, doing):
        result = compare(
            loaded.model,
            prepared.tokens.to(loaded.device),
            cache,
            chunk,
            lambda done, said: progress(0.2 + 0.8 * done, said),
        )
    facts = model_facts(loaded)
    return PerplexityReport(
        model=facts,
        text=text_facts(prepared),
        tokens=tokens,
        config=config,
        chunk=chunk,
        exact_window=exact_window,
        path=f"{cache.path(loaded.device)}; {path(chunk)}",
        quality=Quality.of(result.predictions),
        before_bytes=2 * facts.layers * facts.kv_heads * facts.head_dim * tokens * BF16_BITS // 8,
        after=StoredBytes(**over_processes(cache.stored(), loaded.device)),
        reference_rate=tokens / result.reference_seconds,
        quantized_rate=tokens / result.quantized_seconds,
    )


def path(chunk: int) -> str:
    """What attention reads at this chunk size, every token as stored."""
    if chunk <= DECODE_TOKENS:
        return f"{PACKED_ATTENTION} attention on packed storage, every token read back"
    return "SDPA on restored keys and values, every token read back"
