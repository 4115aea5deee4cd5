"""The trellis with errors turned to where queries do not look: other codes, the same decoding.

A key's error e moves the score of a query q by ⟨q, e⟩, so with M = E[q qᵀ] it costs eᵀ M e. Write
M = Fᵀ F with F lower triangular: once the errors of some coordinates are known, the least cost of
those after them is reached not at the vector itself but beside it,

    aim at x_w + F_ww⁻¹ F_wp e_p        p: the coordinates decided, w: those to decide,

which is what error feedback does in GPTQ (arXiv 2210.17323) and QTIP to weights, here done to keys.
Coordinates are decided a block at a time, each with a look at some of those after it. M is drawn
towards the identity, since queries to come are not those that are known. Nothing is stored for any
of this, and whoever reads the codes need not know of it. Does not know where M comes from.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from turbo_kv.quant.rows import times
from turbo_kv.quant.trellis import TrellisCodebook

BLOCK = 16
AHEAD = 8
SHRINKAGE = 0.3
FARTHEST = 1.25  # an aim beyond the largest level, in its multiples, is drawn back to here


class QueryTrellis(TrellisCodebook):
    """A trellis for the keys of one head.

    metric: M in the basis of the vectors that are coded, (D, D), positive semidefinite, not zero.
    Others as for TrellisCodebook.
    """

    def __init__(
        self,
        levels: Tensor,
        bits: int,
        head_dim: int,
        metric: Tensor,
        device: torch.device | str = "cpu",
    ) -> None:
        self.farthest = FARTHEST * levels.abs().max().item()
        super().__init__(levels, bits, head_dim, device)
        factor = _factor(metric.double().cpu())
        self.weights = factor.T.float().contiguous().to(device)  # ‖e @ weights‖² = eᵀ M e
        self.windows = []
        for start in range(0, head_dim, BLOCK):
            stop = min(start + BLOCK + AHEAD, head_dim)
            decided = factor[start:stop, :start]
            feedback = torch.linalg.solve_triangular(
                factor[start:stop, start:stop], decided, upper=False
            )
            self.windows.append((start, stop, feedback.T.float().contiguous().to(device)))

    def _longest(self) -> float:
        return max(super()._longest(), self.farthest * (BLOCK + AHEAD) ** 0.5)

    def _likeness(self, levels: Tensor, unit: Tensor) -> Tensor:
        errors = F.normalize(levels, dim=-1) - unit
        return -times(errors, self.weights).square().sum(-1)

    def _cheapest(self, vectors: Tensor) -> Tensor:
        ways, limit = len(self.slopes), self.farthest / self.head_dim**0.5
        seam = remains = self._seam(self._fixed(vectors))
        errors, path = vectors.clone(), []
        for start, stop, feedback in self.windows:
            aim = vectors[:, start:stop]
            if start:
                aim = aim + times(errors[:, :start].contiguous(), feedback)
            x = self._fixed(aim.clamp(-limit, limit))
            cost, came_from = self._search(x, self._only(remains))
            last = stop == self.head_dim
            end = self._cheapest_end(cost, seam) if last else cost.argmin(0)
            states = self.walk.trace(end, came_from, ways)[: None if last else BLOCK]
            path.append(states)
            if last:
                break
            errors[:, start : start + BLOCK] -= self.levels[:, 0][states.T]
            remains = states[-1] // ways
        return self._codes(torch.cat(path))


def _factor(metric: Tensor) -> Tensor:
    """F, lower triangular, with Fᵀ F in proportion to the shrunk metric; fp64."""
    share = metric / metric.diagonal().mean()
    shrunk = (1 - SHRINKAGE) * share + SHRINKAGE * torch.eye(len(metric), dtype=metric.dtype)
    return torch.linalg.cholesky(shrunk.flip(0, 1)).flip(0, 1).T
