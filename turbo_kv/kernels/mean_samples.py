"""Tables by which cuda/attend.cu adds what the mean of centred keys does to scores, q · R(j) μ.

With z = conj(q) μ for every RoPE pair, q · R(j) μ = Σ Re(z_p) cos θ_p j + Im(z_p) sin θ_p j. Pairs
are fast or slow. A slow pair turns by at most SMOOTH within a page, so the sum over slow pairs is
sampled at the middle of every page in fp32 and interpolated from the samples of NODES with the
weights that are best, by least squares, for all angles up to SMOOTH; their own error is below 6e-5
of those pairs' size, and differences between samples go as fp16, whose rounding is more. Fast pairs
are turned from page to page, and a small product with the cosines and sines of a page's tokens adds
them. Tables hold fp16 numbers where the matrix unit multiplies them, each in the order in which its
lanes hold an operand. Does not know codes.
"""

import torch
from torch import Tensor

from turbo_kv.kernels.pages import FIELDS, PAGE

SMOOTH = 2.05  # radians
ANGLES = 400  # up to SMOOTH that weights are fitted to
NODES = torch.arange(-7, 9)  # pages, counted from the one that is interpolated
STEP = 8  # pairs that one product of the matrix unit takes
BLOCK = 16  # samples that one product makes


def fast_pairs(cos: Tensor, sin: Tensor) -> int:
    """How many of the first pairs count as fast, a multiple of 8.

    cos, sin: fp32 (T, D) of a rotary table, T at least 2.
    """
    turns = (_frequencies(cos, sin) * PAGE).abs()
    last = (turns > SMOOTH).nonzero().flatten()[-1:].tolist()
    return max(STEP, -(-(1 + sum(last)) // STEP) * STEP)


def fast_table(cos: Tensor, sin: Tensor, fast: int) -> Tensor:
    """cos θn and sin θn for the tokens n of a page, counted from its middle, of the fast pairs.

    fp16 (4 fields, fast / 8, 8 rows, 4 lanes t, 2, 2 row halves, 2); lane t holds the pairs from
    t · fast / 4 on.
    """
    turns = _angles(cos, sin, torch.arange(PAGE) - PAGE // 2)[:, :fast]
    split = _cos_sin(turns).view(FIELDS, 2, 8, 4, fast // STEP, 2, 2)  # .., t, step, half step, ..
    return split.permute(0, 4, 2, 3, 5, 1, 6).half().contiguous()


def step_table(cos: Tensor, sin: Tensor, fast: int, pages: int) -> Tensor:
    """cos and sin of what fast pairs turn by over `pages` (back, if negative), fp32 (fast, 2)."""
    return _cos_sin(_angles(cos, sin, torch.tensor([PAGE * pages]))[0, :fast]).float().contiguous()


def slow_table(device: torch.device) -> Tensor:
    """Weights of the NODES for a page's tokens, fp16 (4 fields, 8 rows, 4, 2, 2 row halves, 2)."""
    place = (torch.arange(PAGE).double() - PAGE // 2) / PAGE
    split = _weights(place).view(FIELDS, 2, 8, 2, 4, 2)  # field, row half, row, half, t, next node
    return split.permute(0, 2, 4, 3, 1, 5).half().contiguous().to(device)


def sample_table(cos: Tensor, sin: Tensor, fast: int) -> Tensor:
    """cos and sin of the slow pairs at the middles of pages, in two parts that add up.

    Sample i is that of page i + NODES[0]; pages outside the table are there too, as far as pages
    within it need them. fp16 (blocks of 16, (D/2 - fast) / 8, 2 parts, 8 rows, 4, 2, 2 row halves,
    2).
    """
    count = -(-len(cos) // PAGE) + len(NODES)
    blocks = -(-count // BLOCK)
    page = torch.arange(blocks * BLOCK) + NODES[0]
    turns = _angles(cos, sin, page * PAGE + PAGE // 2)[:, fast:]
    split = _cos_sin(turns).view(blocks, 2, 8, -1, 2, 4, 2)  # block, row half, row, step, .., t, ..
    split = split.permute(0, 3, 2, 5, 4, 1, 6)
    upper = split.half()
    return torch.stack((upper, (split - upper).half()), 2).contiguous()


def _frequencies(cos: Tensor, sin: Tensor) -> Tensor:
    half = cos.shape[1] // 2
    return torch.atan2(sin[1, :half].double(), cos[1, :half].double())


def _angles(cos: Tensor, sin: Tensor, slots: Tensor) -> Tensor:
    """Angles at `slots`, fp64 (·, D/2): of the table as far as it goes, then onwards from there."""
    half, slots = cos.shape[1] // 2, slots.to(cos.device)
    near = slots.abs().clamp(max=len(cos) - 1)
    angle = torch.atan2(sin[near, :half].double(), cos[near, :half].double())
    beyond = (slots.abs() - near).unsqueeze(1) * _frequencies(cos, sin)
    return (angle + beyond) * slots.sign().unsqueeze(1)


def _cos_sin(angles: Tensor) -> Tensor:
    return torch.stack((angles.cos(), angles.sin()), -1)


def _weights(place: Tensor) -> Tensor:
    """Weights (·, NODES) for values at `place`; those of a place add up to 1.

    What is fitted is differences from the node at 0, as the kernel interpolates them.
    """
    quarter = torch.linspace(0, torch.pi / 2, ANGLES).double()
    angle = SMOOTH * quarter.cos()  # denser where it is hard
    others = NODES[NODES != 0].double()

    def turns(at: Tensor) -> Tensor:
        turned = torch.outer(angle, at)
        return torch.cat((turned.cos() - 1, turned.sin()))

    found = torch.linalg.lstsq(turns(others), turns(place), rcond=1e-13, driver="gelsd").solution.T
    weights = torch.zeros(len(place), len(NODES), dtype=torch.double)
    weights[:, NODES != 0] = found
    weights[:, NODES == 0] = 1 - found.sum(1, keepdim=True)
    return weights
