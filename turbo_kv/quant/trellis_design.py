"""How the levels of a trellis are found: Lloyd's iteration on Gaussian directions, seeded.

Begin with the quantiles of a Gaussian, so that the codes out of every state part the line evenly
and each state parts it at other places. Then again and again code a batch of random unit vectors
and move every level to the mean of the coordinates it stood for. Means are running ones; their
memory lengthens step by step, which lets the levels jump early and settle late. Knows nothing of
models.
"""

from collections.abc import Iterator
from statistics import NormalDist

import torch
import torch.nn.functional as F
from torch import Tensor

from turbo_kv.quant.trellis import TrellisCodebook

HEAD_DIM = 64
MEMORY = (0.3, 0.98)  # share of the old sums that a step keeps, at first and at last
SPREAD = 1.05


def design(bits: int, state_bits: int, steps: int, vectors: int, seed: int = 0) -> Iterator[Tensor]:
    """Levels (2^state_bits,), fp32, after each of `steps` batches of `vectors`, ever better."""
    generator = torch.Generator().manual_seed(seed)
    levels = _quantiles(bits, state_bits, generator)
    count = torch.full_like(levels, 1e-3)
    total = levels * count
    for step in range(steps):
        kept = MEMORY[0] + (MEMORY[1] - MEMORY[0]) * step / steps
        unit = F.normalize(torch.randn(vectors, HEAD_DIM, generator=generator), dim=-1)
        book = TrellisCodebook(levels, bits, HEAD_DIM, stretches=(1.0,))
        states = book.states(book.encode(unit)).flatten()
        coordinates = (unit * HEAD_DIM**0.5).flatten()
        count = kept * count + torch.bincount(states, minlength=len(levels))
        total = kept * total + torch.bincount(states, coordinates, len(levels))
        levels = torch.where(count > 0.5, total / count, levels)
        yield levels


def _quantiles(bits: int, state_bits: int, generator: torch.Generator) -> Tensor:
    """Quantiles of a Gaussian: in order by the newest code, at random by the bits before it."""
    states = 2**state_bits
    wide = NormalDist(sigma=SPREAD)
    quantiles = torch.tensor([wide.inv_cdf((i + 0.5) / states) for i in range(states)])
    older = torch.randperm(states >> bits, generator=generator)
    return quantiles.view(2**bits, -1)[:, older].flatten()
