"""Random signs, then a Walsh-Hadamard transform: spreads every coordinate over the whole vector.

y = H D x with D = diag(±1), seeded, and H orthonormal, so x = D H y. The signs come before H;
after it they would only mirror a symmetric codebook (TurboQuant, arXiv 2504.19874, section 3.1,
with H D in place of a dense random rotation).

H exists for powers of two. Any other even head_dim is cut into the powers of two of its binary
form, largest first (80 = 64 + 16, 96 = 64 + 32), and H is block-diagonal: coordinates of
different blocks do not mix, so an outlier is spread over its own block only, and a block that
holds more energy than its share is quantized more coarsely than the rest.

The transform is one product with the explicit matrix: at these sizes faster in eager torch, on
one vector and on many, than a butterfly of views.
"""

import torch
from torch import Tensor

from turbo_kv.quant.rows import times


class HadamardRotation:
    """The seeded rotation of vectors of `head_dim` coordinates on `device`."""

    def __init__(self, head_dim: int, seed: int, device: torch.device | str = "cpu") -> None:
        generator = torch.Generator().manual_seed(seed)
        signs = 2.0 * torch.randint(2, (head_dim, 1), generator=generator) - 1.0
        matrix = signs * torch.block_diag(*map(hadamard_matrix, blocks(head_dim)))  # D H
        self.matrix = matrix.to(device)
        self.inverse = matrix.T.contiguous().to(device)

    def rotate(self, x: Tensor) -> Tensor:
        """Rotate vectors (..., D) of any float dtype; fp32."""
        return times(x.float(), self.matrix)

    def unrotate(self, y: Tensor) -> Tensor:
        """Undo `rotate`; (..., D), fp32."""
        return times(y.float(), self.inverse)


class NoRotation:
    """Stands in for the rotation when it is off."""

    def rotate(self, x: Tensor) -> Tensor:
        """Return the vectors (..., D) in fp32."""
        return x.float()

    def unrotate(self, y: Tensor) -> Tensor:
        """Return the vectors (..., D) in fp32."""
        return y.float()


def blocks(head_dim: int) -> list[int]:
    """The powers of two that sum to `head_dim`, largest first."""
    return [1 << bit for bit in reversed(range(head_dim.bit_length())) if head_dim >> bit & 1]


def hadamard_matrix(size: int) -> Tensor:
    """The orthonormal Walsh-Hadamard matrix (size, size), fp32, size a power of two."""
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.cat((torch.cat((matrix, matrix), 1), torch.cat((matrix, -matrix), 1)))
    return matrix / size**0.5
