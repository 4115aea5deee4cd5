"""x @ matrix, where a row's result does not depend on the rows beside it.

A cache that grows token by token must hold the codes of one that was filled at once, so one row
alone must come out bit for bit as among thousands. Matrix-matrix kernels add along a row in a
fixed order; a single row would go to a matrix-vector kernel, and some libraries take the last one
to three rows through kernels of their own, which add in another one. So rows come in fours.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 4


def times(x: Tensor, matrix: Tensor) -> Tensor:
    """Multiply every vector of `x` (..., D), fp32, by `matrix` (D, E): (..., E)."""
    rows = x.reshape(-1, x.shape[-1])
    missing = -len(rows) % ROWS
    padded = F.pad(rows, (0, 0, 0, missing)) if missing else rows
    return torch.mm(padded, matrix)[: len(rows)].view(*x.shape[:-1], matrix.shape[1])
