"""How many bytes a cache takes, from a model's published facts; nothing is loaded.

The formulas are those of what is really stored, and a test holds them to it:

    vector   ceil(D b / 8) codes + n scale [+ ceil(D / 8) signs + n residual norm, with a sketch]
    cache    batch x tokens x layers x KV heads x (key vector + value vector)
    means    batch x layers x KV heads x 2 D fp16, when they are stored
"""

from dataclasses import asdict, dataclass, field
from typing import Any

from turbo_kv.measure.report import StoredBytes
from turbo_kv.models.catalog import SIZES, ModelCard
from turbo_kv.quant.config import QuantConfig

FP16_BYTES = 2
GIB = 2**30


@dataclass(frozen=True)
class PlanRequest:
    """What to plan for: `batch` texts of `tokens` tokens on a device with `memory` bytes."""

    tokens: int = 32_768
    batch: int = 1
    memory: int = 24 * GIB
    config: QuantConfig = field(default_factory=QuantConfig)


@dataclass(frozen=True)
class Plan:
    """One model's cache at a length, in bytes, and the longest one that a memory holds, in tokens.

    `longest_before` and `longest_after` count batch rows of equal length beside bf16 weights; 0 if
    not even the weights fit. They may exceed what the model was trained to read.
    """

    card: ModelCard
    tokens: int
    batch: int
    before_bytes: int
    after: StoredBytes
    longest_before: int
    longest_after: int

    @property
    def ratio(self) -> float:
        return self.before_bytes / self.after.total

    @property
    def bits_per_value(self) -> float:
        """Stored bits over stored values; bf16 spends 16."""
        return 16 / self.ratio

    def to_dict(self) -> dict[str, Any]:
        """The JSON form: the card by its name, sizes in bytes."""
        return {
            "model": self.card.name,
            "licence": self.card.licence,
            "max_position_embeddings": self.card.max_position_embeddings,
            "weights_bytes": self.card.weights_bytes,
            "tokens": self.tokens,
            "batch": self.batch,
            "memory": {
                "before_bytes": self.before_bytes,
                "after_bytes": self.after.total,
                "ratio": self.ratio,
                "bits_per_value": self.bits_per_value,
                "stored": asdict(self.after),
            },
            "longest_context": {"before": self.longest_before, "after": self.longest_after},
        }


def plan(card: ModelCard, tokens: int, batch: int, memory: int, config: QuantConfig) -> Plan:
    """Plan one model's cache on a device with `memory` bytes.

    Raises ValueError unless all numbers are positive.
    """
    for name, value in (("context", tokens), ("batch", batch), ("memory", memory)):
        if value < 1:
            raise ValueError(f"{name} is {value:,}; choose 1 or more")
    free = max(0, memory - card.weights_bytes)
    after = packed_bytes(card, tokens, batch, config)
    per_token = (after.total - after.means) // tokens
    return Plan(
        card=card,
        tokens=tokens,
        batch=batch,
        before_bytes=exact_bytes(card, tokens, batch),
        after=after,
        longest_before=free // exact_bytes(card, 1, batch),
        longest_after=max(0, free - after.means) // per_token,
    )


def plan_sizes(request: PlanRequest) -> list[Plan]:
    """Plan every size of Qwen2.5, smallest first. Raises what `plan` does."""
    return [
        plan(card, request.tokens, request.batch, request.memory, request.config) for card in SIZES
    ]


def exact_bytes(card: ModelCard, tokens: int, batch: int) -> int:
    """Bytes of keys and values in bf16."""
    return batch * tokens * card.kv_bytes_per_token()


def packed_bytes(
    card: ModelCard,
    tokens: int,
    batch: int,
    config: QuantConfig,
    *,
    norm_bytes: int | None = None,
) -> StoredBytes:
    """Bytes of keys and values stored as `config` says.

    `norm_bytes` is what a scale or residual norm takes, if not what is configured; 4 shows what
    fp32 would cost.
    """
    norm_bytes = norm_bytes or config.scale_bits // 8
    pairs = batch * tokens * card.layers * card.kv_heads  # of a key and a value
    parts = [_vector_bytes(card.head_dim, side, norm_bytes) for side in (config, config.for_values)]
    means = 2 * batch * card.layers * card.kv_heads * card.head_dim * FP16_BYTES
    return StoredBytes(
        **{name: pairs * sum(part[name] for part in parts) for name in parts[0]},
        means=means if config.centering == "mean" else 0,
    )


def _vector_bytes(head_dim: int, config: QuantConfig, norm_bytes: int) -> dict[str, int]:
    return {
        "codes": _whole_bytes(head_dim * config.codebook_bits),
        "scales": norm_bytes,
        "signs": _whole_bytes(head_dim) if config.qjl else 0,
        "residual_norms": norm_bytes if config.qjl else 0,
    }


def _whole_bytes(bits: int) -> int:
    return -(-bits // 8)
