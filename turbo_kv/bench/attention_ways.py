"""What the attention benchmarks measure: shapes, ways to attend, and how right a way must be."""

from dataclasses import dataclass
from typing import Any

TOLERANCE = 2e-3  # relative L2 distance from the fp32 specification on the same bytes


@dataclass(frozen=True)
class Shape:
    """Decode attention of one layer: `groups` queries per KV head, `tokens` in the cache."""

    batch: int
    kv_heads: int
    groups: int
    head_dim: int
    tokens: int

    @property
    def values(self) -> int:
        """Numbers in the cache of a layer, keys and values."""
        return 2 * self.batch * self.kv_heads * self.tokens * self.head_dim


@dataclass(frozen=True)
class Way:
    """One way to attend to one shape. Times in microseconds: median, 10th and 90th percentile.

    ours: whether it reads packed storage. nbytes: of keys and values, which it must read.
    error: relative L2 distance from fp32 attention on what it reads. missing: why it has no time.
    """

    name: str
    ours: bool
    nbytes: int
    median: float | None = None
    low: float | None = None
    high: float | None = None
    error: float | None = None
    missing: str | None = None


def checked(name: str, error: float, tolerance: float = TOLERANCE) -> float:
    """The error of a way, if it is small; ArithmeticError otherwise, NaN included."""
    if not error <= tolerance:
        raise ArithmeticError(f"{name}: relative error {error:.2e}, {tolerance:.0e} is allowed")
    return error


def fastest(ways: list[dict[str, Any]], ours: bool) -> dict[str, Any]:
    """The fastest measured way among ours, or among the others."""
    measured = [way for way in ways if way["ours"] == ours and way["missing"] is None]
    return min(measured, key=lambda way: way["median"])
