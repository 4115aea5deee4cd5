"""A 1-bit sketch of what the codebook left over: the signs of d random projections and a norm.

For a residual r keep sign(S r) and ‖r‖, S one seeded d×d matrix of N(0, 1), and restore

    r̂ = √(π/2)/d · ‖r‖ · Sᵀ sign(S r).

Over S this is unbiased: E⟨q, r̂⟩ = ⟨q, r⟩, with variance at most π/(2d)·‖q‖²‖r‖² (QJL, arXiv
2406.03482; TurboQuant, algorithm 2). Knows nothing of codes; S is isotropic, so a rotated residual
is as good as any.
"""

from math import pi, sqrt

import torch
from torch import Tensor

from turbo_kv.quant.packing import look_up, pack, window_table
from turbo_kv.quant.rows import times


class Sketch:
    """The seeded projection for residuals of `head_dim` coordinates on `device`."""

    def __init__(self, head_dim: int, seed: int, device: torch.device | str = "cpu") -> None:
        generator = torch.Generator().manual_seed(seed)
        projection = torch.randn(head_dim, head_dim, generator=generator)  # S
        self.head_dim = head_dim
        self.project = projection.T.contiguous().to(device)
        self.plus_minus = window_table(torch.tensor((-1.0, 1.0), device=device), 1)
        self.back = (projection * (sqrt(pi / 2) / head_dim)).to(device)

    def sketch(self, residual: Tensor) -> tuple[Tensor, Tensor]:
        """Sketch residuals (..., D), fp32: packed signs (..., ⌈D/8⌉), uint8, and norms, fp32."""
        signs = times(residual, self.project) > 0
        return pack(signs, 1), residual.norm(dim=-1)

    def restore(self, signs: Tensor, norms: Tensor) -> Tensor:
        """The unbiased estimate of the residuals: (..., D), fp32."""
        directions = look_up(signs, 1, self.plus_minus, self.head_dim)
        return times(directions, self.back).mul_(norms.unsqueeze(-1))
