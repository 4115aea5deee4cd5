"""Levels that a GPU computes from a code in three instructions: a quadratic in place of a table.

With u the code less its middle (c - 3.5 at 3 bits), the level of a code is

    step · u (|u| + curve),

rounded to fp16 before the step, as half-precision units compute it. One curve per width comes near
Lloyd and Max's levels: their error at 1 and 2 bits, 1.1 % above it at 3 (1.25 % in the Gaussian
limit), 5 % at 4. The step only places the boundaries, midpoints of the levels: a vector's scale
mends the length. Knows nothing of how codes are stored.
"""

from functools import cache
from math import sqrt

import torch
from torch import Tensor

from turbo_kv.quant.lloyd_max import Codebook, cells

CURVES = {
    1: 8.0,
    2: 8.9375,
    3: 7.7890625,
    4: 11.625,
}  # best multiples of 1/16; at 3 bits exact fp16
LLOYD_STEPS = 100


def shapes(bits: int) -> Tensor:
    """Levels before the step, exact in fp16: (2^bits,), ascending, fp32."""
    if bits not in CURVES:
        raise ValueError(
            f"a codebook of {bits!r} bits; choose one of {', '.join(map(str, CURVES))}"
        )
    u = torch.arange(2**bits).sub((2**bits - 1) / 2).half()
    return (u * (u.abs() + CURVES[bits])).float()


@cache
def codebook(bits: int, head_dim: int) -> Codebook:
    """The quadratic codebook of `bits` per coordinate for unit vectors in R^head_dim.

    Of all steps it takes the one that is best for its own boundaries (Lloyd's condition).
    Raises ValueError unless bits is 1 to 4 and head_dim at least 3.
    """
    if head_dim < 3:
        raise ValueError(f"head_dim is {head_dim}; a codebook needs at least 3 dimensions")
    shape = shapes(bits).double()
    midpoints = (shape[1:] + shape[:-1]) / 2
    step = 1 / (sqrt(head_dim) * shape.abs().mean())
    for _ in range(LLOYD_STEPS):
        mass, mean = cells(step * midpoints, head_dim)
        step = (mass * mean * shape).sum() / (mass * shape.square()).sum()
    mass, mean = cells(step * midpoints, head_dim)
    levels = step * shape
    error = 1 + head_dim * (mass * (levels.square() - 2 * mean * levels)).sum()
    return Codebook(levels.float(), (step * midpoints).float(), error.item())
