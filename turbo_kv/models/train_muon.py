"""Muon: momentum whose every update is made orthogonal, for the matrices of a network.

Keller Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024). Matrices
of one shape are stepped together, as one batch. Knows nothing of the model; embeddings, norms
and biases belong to another optimizer.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch

# The quintic that drives every singular value towards one in five steps.
QUINTIC = (3.4445, -4.7750, 2.0315)
STEPS = 5


def orthogonalize(matrices: torch.Tensor) -> torch.Tensor:
    """Replace singular values by about one: (N, rows, columns) of any float dtype, to bf16."""
    a, b, c = QUINTIC
    x = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(STEPS):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalized, with decoupled weight decay."""

    def __init__(
        self,
        matrices: Iterable[torch.nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.05,
    ) -> None:
        by_shape = defaultdict(list)
        for matrix in matrices:
            by_shape[matrix.shape].append(matrix)
        settings = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__([{"params": group} for group in by_shape.values()], settings)

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            matrices = group["params"]
            gradient = torch.stack([matrix.grad for matrix in matrices])  # (N, rows, columns)
            state = self.state[matrices[0]]
            if not state:
                state["average"] = torch.zeros_like(gradient)
            average = state["average"].lerp_(gradient, 1 - group["momentum"])
            update = orthogonalize(gradient.lerp_(average, group["momentum"]))
            # A tall matrix has fewer singular values than rows: keep the size of an output entry.
            rows, columns = matrices[0].shape
            size = group["lr"] * max(1, rows / columns) ** 0.5
            torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(matrices, list(update.float().unbind()), alpha=-size)
