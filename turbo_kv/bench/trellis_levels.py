"""Designs the levels that the package ships for its trellis codebook, one row per width.

Knows how long to look for them, not how.
"""

from pathlib import Path

import torch
from torch import Tensor

from turbo_kv.models.progress import Progress, silent
from turbo_kv.quant.trellis import LEVELS_FILE, STATE_BITS
from turbo_kv.quant.trellis_design import design

BITS = (1, 2, 3, 4)
STEPS = 400
VECTORS = 1536


def write_levels(progress: Progress = silent) -> list[Path]:
    """Write the file of levels, fp16, little-endian: (widths, 2^STATE_BITS); minutes on a CPU."""
    rows = [designed(bits, STATE_BITS, STEPS, VECTORS, progress) for bits in BITS]
    LEVELS_FILE.write_bytes(torch.stack(rows).half().numpy().astype("<f2").tobytes())
    return [LEVELS_FILE]


def designed(bits: int, state_bits: int, steps: int, vectors: int, progress: Progress) -> Tensor:
    """The levels that `design` ends with, (2^state_bits,), fp32."""
    made = design(bits, state_bits, steps, vectors)
    for step in range(1, steps):
        next(made)
        progress(step / steps, f"{2**state_bits:,} levels of {bits}-bit codes, step {step:,}")
    return next(made)
