"""How the length of a vector is kept beside its codes: in fp16, or in one byte on a log scale.

A byte stands for one of 251 lengths from 1/256 to 8,192, or for zero: 33 to the octave from 1/2 to
32, where centred keys and values lie, fewer above, where some keys do, and fewest outside. An error
here turns no vector but moves every logit in proportion, so it costs more than its square says.
Bytes come from comparing with the middles between levels, so that every device and every batch size
gives the same ones. Knows nothing of what is scaled.
"""

from functools import cache
from itertools import pairwise
from math import sqrt

import torch
from torch import Tensor

OCTAVES = ((-8, -1, 3), (-1, 5, 33), (5, 8, 7), (8, 13, 2))  # from, to, levels per octave
LEVELS = (
    0.0,
    *(2.0 ** (a + i / steps) for a, b, steps in OCTAVES for i in range((b - a) * steps)),
    2.0 ** OCTAVES[-1][1],
)
TOO_LARGE = len(LEVELS)
LARGEST = {16: torch.finfo(torch.float16).max, 8: LEVELS[-1]}


def store(scales: Tensor, bits: int) -> Tensor:
    """Scales (...), fp32, not negative, as fp16 or, in 8 bits, uint8."""
    if bits == 16:
        return scales.half()
    return torch.bucketize(scales, _middles(scales.device), out_int32=True).to(torch.uint8)


def read(stored: Tensor) -> Tensor:
    """The scales (...) that `store` kept, fp32."""
    if stored.dtype != torch.uint8:
        return stored.float()
    return _levels(stored.device)[stored.int()]


def too_large(stored: Tensor) -> Tensor:
    """Which of the scales (...) were NaN, infinite or beyond the largest; bool."""
    return stored == TOO_LARGE if stored.dtype == torch.uint8 else ~stored.isfinite()


@cache
def _levels(device: torch.device) -> Tensor:
    """What every byte is read as, up to the mark of what is too large."""
    return torch.tensor([*LEVELS, torch.inf], device=device)


@cache
def _middles(device: torch.device) -> Tensor:
    """Where one byte ends and the next begins: geometric means, and half of the smallest level."""
    _, smallest, *_ = LEVELS
    last = LEVELS[-1] * sqrt(LEVELS[-1] / LEVELS[-2])
    inner = [sqrt(low * high) for low, high in pairwise(LEVELS[1:])]
    return torch.tensor([smallest / 2, *inner, last], device=device)
