"""Tables by which cuda/attend.cu adds what the mean of centred keys does to scores, q · R(j) μ.

With z = conj(q) μ for every RoPE pair, q · R(j) μ = Σ Re(z_p) cos θ_p j + Im(z_p) sin θ_p j. Pairs
are fast or slow. A slow pair turns by at most SMOOTH within a page, so the sum over slow pairs is
sampled at the middle of every page in fp32 and interpolated from the samples of NODES with the
weights that are best, by least squares, for all angles up to SMOOTH; their own error is below 6e-5
of those pairs' size, and differences between samples go as fp16, whose rounding is more. Fast pairs
are turned from page to page. Within a page, what slow pairs add is a curve, and so is what the
SLOWEST fast pairs add: NUMBERS functions, the first singular vectors of all such curves, tell them
to 4e-5 of the pairs' size. One product makes those numbers of a query from samples and slowest
pairs; another, with the functions and with cosines and sines of the other fast pairs at a page's
tokens, makes scores. Tables hold fp16 numbers where the matrix unit multiplies them, each in the
order in which its lanes hold an operand. Does not know codes.
"""

import torch
from torch import Tensor

from turbo_kv.kernels.pages import FIELDS, PAGE

SMOOTH = 2.05  # radians
CURVED = 5.0  # radians that the slowest of the fast pairs turn by within a page, at most
SLOWEST = 4  # of the fast pairs, whose sum is a curve
NUMBERS = 8  # that tell a curve
SCALE = 8.0  # of the functions, so that they and the numbers are of one size
ANGLES = 400  # up to SMOOTH that weights are fitted to
EVEN = ANGLES**0.5  # a pair's weight among that many angles
NODES = torch.arange(-7, 9)  # pages, counted from the one that is interpolated
STEP = 8  # pairs that one product of the matrix unit takes
BLOCK = 16  # samples that one product makes


def fast_pairs(cos: Tensor, sin: Tensor) -> int:
    """How many of the first pairs count as fast, a multiple of 8.

    cos, sin: fp32 (T, D) of a rotary table, T at least 2.
    """
    turns = (_frequencies(cos, sin) * PAGE).abs()
    fastest = (turns > SMOOTH).sum(), SLOWEST + (turns > CURVED).sum()
    return max(STEP, -(-max(each.item() for each in fastest) // STEP) * STEP)


def mean_table(cos: Tensor, sin: Tensor, fast: int) -> Tensor:
    """cos θn and sin θn for the tokens n of a page, counted from its middle, of the fast pairs.

    In place of the SLOWEST of them, the functions of curves. fp16 (4 fields, fast / 8, 8 rows, 4
    lanes t, 2, 2 row halves, 2); lane t holds the pairs t, t + 4, ...
    """
    turns = _cos_sin(_angles(cos, sin, _tokens())[:, : fast - SLOWEST]).flatten(1)
    both = torch.cat((turns, SCALE * _functions(cos, sin, fast).to(cos.device)), 1)
    split = both.view(FIELDS, 2, 8, fast // STEP, 2, 4, 2)  # .., step, half step, t, 2
    return split.permute(0, 3, 2, 5, 4, 1, 6).half().contiguous()


def curve_table(cos: Tensor, sin: Tensor, fast: int) -> Tensor:
    """What makes the numbers of a curve.

    Of the samples at NODES, less that at 0, and of the slowest fast pairs.
    fp16 (8 numbers, 4 lanes t, 4, 2), the last two of each lane nothing.
    """
    functions = _functions(cos, sin, fast).T / SCALE
    samples = functions @ _weights(_tokens().double() / PAGE)
    pairs = functions @ _slowest(cos, sin, fast)
    parts = (samples.view(NUMBERS, 2, 4, 2), pairs.view(NUMBERS, 1, 4, 2))
    table = torch.cat((*parts, torch.zeros_like(parts[1])), 1)
    return table.transpose(1, 2).half().contiguous().to(cos.device)


def step_table(cos: Tensor, sin: Tensor, fast: int, pages: int) -> Tensor:
    """cos and sin of what fast pairs turn by over `pages` (back, if negative).

    fp32 (4 lanes t, fast / 4, 2); lane t holds the pairs t, t + 4, ...
    """
    turns = _cos_sin(_angles(cos, sin, torch.tensor([PAGE * pages]))[0, :fast])
    return turns.view(-1, 4, 2).transpose(0, 1).float().contiguous()


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


def _tokens() -> Tensor:
    return torch.arange(PAGE) - PAGE // 2


def _slowest(cos: Tensor, sin: Tensor, fast: int) -> Tensor:
    """cos θn and sin θn of the slowest fast pairs (64, 8), on the CPU."""
    return _cos_sin(_angles(cos, sin, _tokens())[:, fast - SLOWEST : fast]).flatten(1).cpu()


def _functions(cos: Tensor, sin: Tensor, fast: int) -> Tensor:
    """The functions (64, NUMBERS) of a page's tokens that tell curves, orthonormal, on the CPU."""
    turns = torch.outer(_tokens().double() / PAGE, _fitted())
    curves = torch.cat((turns.cos() - 1, turns.sin(), EVEN * _slowest(cos, sin, fast)), 1)
    return torch.linalg.svd(curves, full_matrices=False).U[:, :NUMBERS]


def _fitted() -> Tensor:
    """Angles up to SMOOTH, denser where it is hard."""
    return SMOOTH * torch.linspace(0, torch.pi / 2, ANGLES).double().cos()


def _cos_sin(angles: Tensor) -> Tensor:
    return torch.stack((angles.cos(), angles.sin()), -1)


def _weights(place: Tensor) -> Tensor:
    """Weights (·, NODES) for values at `place`; those of a place add up to 1.

    What is fitted is differences from the node at 0, as the kernel interpolates them.
    """
    angle = _fitted()
    others = NODES[NODES != 0].double()

    def turns(at: Tensor) -> Tensor:
        turned = torch.outer(angle, at)
        return torch.cat((turned.cos() - 1, turned.sin()))

    found = torch.linalg.lstsq(turns(others), turns(place), rcond=1e-13, driver="gelsd").solution.T
    weights = torch.zeros(len(place), len(NODES), dtype=torch.double)
    weights[:, NODES != 0] = found
    weights[:, NODES == 0] = 1 - found.sum(1, keepdim=True)
    return weights
