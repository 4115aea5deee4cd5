"""x @ matrix, where a row's result does not depend on the rows beside it.

A cache that grows token by token must hold the codes of one that was filled at once, so one row
alone must come out bit for bit as among thousands. Matrix-matrix kernels add along a row in a
fixed order; a single row would go to a matrix-vector kernel, which adds in another one.
"""

import torch
from torch import Tensor


def times(x: Tensor, matrix: Tensor) -> Tensor:
    """Multiply every vector of `x` (..., D), fp32, by `matrix` (D, E): (..., E)."""
    rows = x.reshape(-1, x.shape[-1])
    if len(rows) == 1:
        return torch.mm(rows.expand(2, -1), matrix)[:1].view(*x.shape[:-1], -1)
    return torch.mm(rows, matrix).view(*x.shape[:-1], matrix.shape[1])
