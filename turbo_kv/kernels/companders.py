"""Polynomials whose whole part is a code: u P(u² - middle), m where a codebook's mth boundary is.

Knows no kernel.
"""

import torch

GRID = 4096  # numbers in which a compander is tried
MOST_EXTRA = 4  # terms beyond those that boundaries determine
MARGIN = 1e-6  # beside a boundary, where a code may be either


def compander(boundaries: list[float], largest: float) -> tuple[list[float], float]:
    """Coefficients of P, upwards, and the middle, in fp64.

    boundaries: above zero, ascending. largest: number there can be; beyond the last boundary the
    compander stays above its number. Raises ValueError if no polynomial of few terms does.
    """
    edges = torch.tensor(boundaries, dtype=torch.double)
    middle = edges[-1].item() ** 2 / 2 if len(edges) > 1 else 0.0
    tried = torch.linspace(0, largest, GRID + 1, dtype=torch.double)[1:]
    tried = torch.cat((tried, torch.linspace(0, boundaries[-1], GRID + 1, dtype=torch.double)[1:]))
    tried = tried[((tried[:, None] - edges).abs() > MARGIN).all(1)]
    wanted = (tried[:, None] > edges).sum(1)
    for extra in range(MOST_EXTRA + 1):
        coefficients = _smoothest(edges, middle, len(edges) + extra)
        found = tried * (_powers(tried, middle, len(coefficients)) @ coefficients)
        if torch.equal(found.floor().clamp(max=len(edges)).long(), wanted):
            return coefficients.tolist(), middle
    raise ValueError(f"no compander of few terms for boundaries {boundaries}")


def _smoothest(edges: torch.Tensor, middle: float, terms: int) -> torch.Tensor:
    """Coefficients that meet every boundary and, with terms to spare, keep near lines between."""
    numbers = torch.arange(1, len(edges) + 1, dtype=torch.double)
    powers = _powers(edges, middle, terms) * edges[:, None]
    orthogonal, triangle = torch.linalg.qr(powers.T, mode="complete")
    count = len(edges)
    met = orthogonal[:, :count] @ torch.linalg.solve(triangle[:count].T, numbers[:, None])[:, 0]
    if terms == count:
        return met
    free = orthogonal[:, count:]
    near = torch.linspace(0, 1, GRID + 1, dtype=torch.double)[1:] * edges[-1]
    corners = torch.cat((edges.new_zeros(1), edges)), torch.cat((numbers.new_zeros(1), numbers))
    last = (near[:, None] > corners[0][1:-1]).sum(1)  # corner before each
    slopes = corners[1].diff() / corners[0].diff()
    wanted = corners[1][last] + (near - corners[0][last]) * slopes[last]
    basis = _powers(near, middle, terms) * near[:, None]
    missing = wanted - basis @ met
    return met + free @ torch.linalg.lstsq(basis @ free, missing[:, None]).solution[:, 0]


def _powers(numbers: torch.Tensor, middle: float, terms: int) -> torch.Tensor:
    return (numbers[:, None] ** 2 - middle) ** torch.arange(terms, dtype=torch.double)
