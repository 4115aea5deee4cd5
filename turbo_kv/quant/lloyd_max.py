"""The best scalar codebook for one coordinate of a random unit vector: Lloyd and Max, 1-4 bits.

A coordinate t of a uniform unit vector in R^d has the density

    p(t) = C (1 - t²)^((d-3)/2),   C = Γ(d/2) / (√π Γ((d-1)/2)),

of variance 1/d, Gaussian as d grows. A codebook is optimal when every centroid is the mean of its
cell and every boundary the midpoint of its centroids (Max 1960, Lloyd 1982; TurboQuant section
3.1). Both sides have closed forms here: with t = sin θ,

    ∫ p dt = C ∫ cos^(d-2) θ dθ,   ∫ t p dt = -C (1 - t²)^((d-1)/2) / (d-1),

and Newton's method on the boundaries meets the conditions to machine precision in a few steps.
Knows nothing of rotations or of the vectors that are coded.
"""

from dataclasses import dataclass
from functools import cache
from math import exp, lgamma, pi, sqrt
from statistics import NormalDist

import torch
from torch import Tensor

BITS = (1, 2, 3, 4)
NEWTON_STEPS = 8  # six reach machine precision in 16 to 256 dimensions


@dataclass(frozen=True, eq=False)
class Codebook:
    """Levels for the coordinates of unit vectors, fp32 on the CPU.

    centroids: (2^bits,), ascending. boundaries: (2^bits - 1,), the midpoints between them.
    distortion: E‖y - c‖² over uniform unit vectors y restored to centroids c.
    """

    centroids: Tensor
    boundaries: Tensor
    distortion: float


def distortion(bits: int, head_dim: int) -> float:
    """E‖y - c‖² that theory promises for uniform unit vectors y in `head_dim` dimensions."""
    return codebook(bits, head_dim).distortion


def density(t: Tensor, head_dim: int) -> Tensor:
    """p(t) of coordinates t, of any shape, each from -1 to 1."""
    return _constant(head_dim) * (1 - t.square()).pow((head_dim - 3) / 2)


@cache
def probabilities(bits: int, head_dim: int) -> Tensor:
    """How often theory uses each level of a codebook: (2^bits,), fp32, of sum 1."""
    return cells(codebook(bits, head_dim).boundaries.double(), head_dim)[0].float()


@cache
def codebook(bits: int, head_dim: int) -> Codebook:
    """The optimal codebook of `bits` per coordinate for unit vectors in R^head_dim.

    Raises ValueError unless bits is 1 to 4 and head_dim at least 3.
    """
    if bits not in BITS:
        raise ValueError(f"a codebook of {bits!r} bits; choose one of {', '.join(map(str, BITS))}")
    if head_dim < 3:
        raise ValueError(f"head_dim is {head_dim}; a codebook needs at least 3 dimensions")
    boundaries = _first_guess(bits, head_dim)
    for _ in range(NEWTON_STEPS):
        mass, mean = cells(boundaries, head_dim)
        gap = boundaries - (mean[1:] + mean[:-1]) / 2
        boundaries = boundaries - torch.linalg.solve(_slopes(boundaries, mass, mean, head_dim), gap)
    mass, mean = cells(boundaries, head_dim)
    return Codebook(
        centroids=mean.float(),
        boundaries=boundaries.float(),
        distortion=1.0 - head_dim * (mass * mean.square()).sum().item(),
    )


def _first_guess(bits: int, head_dim: int) -> Tensor:
    """Boundaries at quantiles of p^(1/3), the density of levels of fine codebooks."""
    levels = 2**bits
    wide = NormalDist(sigma=sqrt(3 / head_dim))
    quantiles = [wide.inv_cdf(i / levels) for i in range(1, levels)]
    return torch.tensor(quantiles, dtype=torch.float64).clamp(-0.9, 0.9)


def cells(boundaries: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """Probability and mean of every cell between the boundaries, -1 and 1."""
    one = boundaries.new_ones(1)
    edges = torch.cat((-one, boundaries, one))
    mass = _mass_below(edges, head_dim).diff()
    moment = -_constant(head_dim) * (1 - edges.square()).pow((head_dim - 1) / 2) / (head_dim - 1)
    return mass, moment.diff() / mass


def _slopes(boundaries: Tensor, mass: Tensor, mean: Tensor, head_dim: int) -> Tensor:
    """Derivative of boundary - midpoint of the neighbouring means by every boundary."""
    there = density(boundaries, head_dim)
    below = there * (boundaries - mean[:-1]) / mass[:-1]  # of the mean left of a boundary
    above = there * (mean[1:] - boundaries) / mass[1:]  # of the mean right of it
    return (
        torch.diag(1 - (below + above) / 2)
        - torch.diag(above[:-1] / 2, -1)
        - torch.diag(below[1:] / 2, 1)
    )


def _mass_below(t: Tensor, head_dim: int) -> Tensor:
    """∫_0^t p, by the reduction formula of ∫ cos^m."""
    cos = (1 - t.square()).sqrt()
    power = head_dim % 2
    integral = t if power else torch.asin(t)
    while power < head_dim - 2:
        power += 2
        integral = t * cos.pow(power - 1) / power + (power - 1) / power * integral
    return _constant(head_dim) * integral


def _constant(head_dim: int) -> float:
    return exp(lgamma(head_dim / 2) - lgamma((head_dim - 1) / 2)) / sqrt(pi)
