"""Which codebook a name stands for: the one table. Knows nothing of how any of them codes.

A codebook has two verbs. `encode` turns unit vectors, rotated, into packed codes; `decode` turns
packed codes into levels, whose length the vector's scale then mends.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from turbo_kv.quant import fast, lloyd_max
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.query_trellis import QueryTrellis
from turbo_kv.quant.scalar import ScalarCodebook
from turbo_kv.quant.trellis import TrellisCodebook, shipped_levels


class Codebook(Protocol):
    """Codes of `bits` for every coordinate of unit vectors; each vector is coded alone."""

    bits: int

    def encode(self, unit: Tensor) -> Tensor:
        """Packed codes of unit vectors (N, D), fp32: (N, ⌈D·bits/8⌉), uint8."""

    def decode(self, codes: Tensor) -> Tensor:
        """Levels of packed codes (..., ⌈D·bits/8⌉): a new tensor (..., D), fp32."""


def make(
    config: QuantConfig,
    head_dim: int,
    device: torch.device | str = "cpu",
    metric: Tensor | None = None,
) -> Codebook:
    """The codebook that `config` names, for vectors of `head_dim` coordinates on `device`.

    metric: of errors, (D, D); only "query-trellis" heeds it, and is "trellis" without one.
    """
    if config.codebook == "query-trellis" and metric is not None:
        bits = config.codebook_bits
        return QueryTrellis(shipped_levels(bits), bits, head_dim, metric, device)
    return CODEBOOKS[config.codebook](config.codebook_bits, head_dim, device)


def _scalar(
    levels_for: Callable[[int, int], lloyd_max.Codebook],
) -> Callable[[int, int, torch.device | str], Codebook]:
    def make(bits: int, head_dim: int, device: torch.device | str) -> Codebook:
        levels = levels_for(bits, head_dim)
        return ScalarCodebook(levels.centroids, levels.boundaries, head_dim, device)

    return make


def _trellis(bits: int, head_dim: int, device: torch.device | str) -> Codebook:
    return TrellisCodebook(shipped_levels(bits), bits, head_dim, device)


CODEBOOKS: dict[str, Callable[[int, int, torch.device | str], Codebook]] = {
    "lloyd-max": _scalar(lloyd_max.codebook),
    "trellis": _trellis,
    "query-trellis": _trellis,
    "fast": _scalar(fast.codebook),
}
