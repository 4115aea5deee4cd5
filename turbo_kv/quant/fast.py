"""Levels whose fp16 numbers end in a zero byte, so that a GPU picks one byte for a code, not two.

With whole numbers for levels, a step places the boundaries, midpoints of the levels; a vector's
scale mends the length. The error is Lloyd and Max's at 1 and 2 bits, 1 % above it at 3, 4.5 % at 4.
Knows nothing of how codes are stored.
"""

from functools import cache
from math import sqrt

import torch

from turbo_kv.quant.lloyd_max import Codebook, cells

POSITIVE = {
    1: (1,),
    2: (3, 10),
    3: (1, 3, 5, 8),
    4: (7, 20, 32, 48, 64, 80, 96, 128),
}  # bits -> the best levels with at most three significant binary digits
LLOYD_STEPS = 100


@cache
def codebook(bits: int, head_dim: int) -> Codebook:
    """The fast codebook of `bits` per coordinate for unit vectors in R^head_dim.

    Of all steps it takes the one that is best for its own boundaries (Lloyd's condition).
    Raises ValueError unless bits is 1 to 4 and head_dim at least 3.
    """
    if bits not in POSITIVE:
        allowed = ", ".join(map(str, POSITIVE))
        raise ValueError(f"a codebook of {bits!r} bits; choose one of {allowed}")
    if head_dim < 3:
        raise ValueError(f"head_dim is {head_dim}; a codebook needs at least 3 dimensions")
    positive = torch.tensor(POSITIVE[bits]).double()
    shape = torch.cat((-positive.flip(0), positive))
    midpoints = (shape[1:] + shape[:-1]) / 2
    step = 1 / (sqrt(head_dim) * shape.abs().mean())
    for _ in range(LLOYD_STEPS):
        mass, mean = cells(step * midpoints, head_dim)
        step = (mass * mean * shape).sum() / (mass * shape.square()).sum()
    mass, mean = cells(step * midpoints, head_dim)
    levels = step * shape
    error = 1 + head_dim * (mass * (levels.square() - 2 * mean * levels)).sum()
    return Codebook(levels.float(), (step * midpoints).float(), error.item())
