"""A codebook that codes every coordinate by itself: the nearest of 2^bits levels.

Knows nothing of where the levels come from, nor of scales.
"""

from math import log2

import torch
from torch import Tensor

from turbo_kv.quant.packing import look_up, pack, window_table


class ScalarCodebook:
    """Levels for the coordinates of unit vectors in R^head_dim, on `device`.

    centroids: (2^bits,), ascending, fp32. boundaries: (2^bits - 1,) between them, fp32.
    """

    def __init__(
        self,
        centroids: Tensor,
        boundaries: Tensor,
        head_dim: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.bits = int(log2(len(centroids)))
        self.head_dim = head_dim
        self.centroids = centroids
        self.boundaries = boundaries.to(device).unbind()
        self.windows = window_table(centroids.to(device), self.bits)  # (windows, levels)

    def encode(self, unit: Tensor) -> Tensor:
        """Packed codes of unit vectors (N, D), fp32: (N, ⌈D·bits/8⌉), uint8."""
        return pack(self._cells(unit), self.bits)

    def decode(self, codes: Tensor) -> Tensor:
        """Levels of packed codes (..., ⌈D·bits/8⌉): (..., D), fp32."""
        return look_up(codes, self.bits, self.windows, self.head_dim)

    def _cells(self, unit: Tensor) -> Tensor:
        """How many boundaries lie below each coordinate, fp32: compared and counted in one dtype.

        Comparing into bool and counting in integers is slower than the bytes it saves.
        """
        cells, above = torch.zeros_like(unit), torch.empty_like(unit)
        for boundary in self.boundaries:
            cells += torch.gt(unit, boundary, out=above)
        return cells
