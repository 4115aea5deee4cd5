"""What the mean of centred keys adds to scores, q · R(j) μ, page by page, in Triton.

A lane holds z = conj(q) μ of its RoPE pairs, turned to the middle of its warp's page in fp32. What
a token n of the page adds to that is a product with a table of phases that all pages share.
`decode_triton.py` has the mathematics. Does not know codes.
"""

import triton
import triton.language as tl

from turbo_kv.kernels import pages as layout

PAGE = tl.constexpr(layout.PAGE)
FIELDS = tl.constexpr(layout.FIELDS)


@triton.jit
def pairs(steps: tl.constexpr, WARPS: tl.constexpr):
    """For every element of operand B its warp, query and RoPE pair, (steps · WARPS · 32, 4).

    Rows are steps, warps, queries and the lanes t of a query, who hold the pairs from 4·steps·t on.
    """
    index = tl.arange(0, steps * WARPS * 32)
    pair = (index % 4 * 4 * steps + index // (32 * WARPS) * 4)[:, None] + tl.arange(0, 4)[None, :]
    return index // 32 % WARPS, index // 4 % 8, pair


@triton.jit
def operand(x, steps: tl.constexpr, WARPS: tl.constexpr):
    """What `pairs` enumerates as an operand B, (WARPS, D/2, 8)."""
    x = x.reshape(steps, WARPS, 8, 4, 2, 2).permute(1, 0, 4, 3, 5, 2)
    return x.reshape(WARPS, 16 * steps, 8)


@triton.jit
def _part(table, steps: tl.constexpr, WARPS: tl.constexpr):
    """A (16, D/2) part of the table of phases as an operand A, alike for every warp."""
    index = tl.arange(0, 32 * WARPS * steps)  # step, warp, lane
    offset = (index // (32 * WARPS) * 32 + index % 32) * 8
    part = tl.load(table + offset[:, None] + tl.arange(0, 8)[None, :])
    part = part.reshape(steps, WARPS, 8, 4, 2, 2, 2).permute(1, 5, 2, 0, 4, 3, 6)
    return part.reshape(WARPS, 16, 16 * steps)


@triton.jit
def turn(real, imag, cos, sin):
    """conj(z e^{iθ}) for z = conj(q) μ, stored as (real, imag) with q · R μ = real there."""
    return real * cos + imag * sin, imag * cos - real * sin


@triton.jit
def phases(mean, tile, last, WARPS: tl.constexpr, D: tl.constexpr):
    """z = conj(q) μ of each RoPE pair, turned to the middle of every warp's page, fp32.

    mean: table, cos, sin; pointers to the left halves of q, which of them are, and of μ; scaling.
    """
    _, cos, sin, query, there, mean_left, scaling = mean
    warp, _, pair = pairs(D // 32, WARPS)
    left = tl.load(query, there, 0.0).to(tl.float32) * scaling
    right = tl.load(query + D // 2, there, 0.0).to(tl.float32) * scaling
    mean_right = tl.load(mean_left + D // 2).to(tl.float32)
    mean_left = tl.load(mean_left).to(tl.float32)
    page = tl.minimum(tile * WARPS + warp, last)
    offset = ((page * PAGE + PAGE // 2) * D)[:, None] + pair
    real = left * mean_left + right * mean_right
    imag = right * mean_left - left * mean_right
    return turn(real, imag, tl.load(cos + offset), tl.load(sin + offset))


@triton.jit
def add_mean(scores, table, real, imag, tile, WARPS: tl.constexpr, D: tl.constexpr):
    """Scores (WARPS, 16, 8) of every field plus what tokens add to q · R(j) μ of the page's middle.

    real, imag: of `phases`, operands B. table: cos θn - 1 and sin θn, n from the middle of a page.
    """
    steps: tl.constexpr = D // 32
    table += tl.minimum(tile, 0) * 8  # 0, but keeps the table from being held in registers
    added = ()
    for field in tl.static_range(FIELDS):
        score = tl.dot(_part(table + field * (16 * D), steps, WARPS), real, scores[field])
        score = tl.dot(_part(table + field * (16 * D) + 8 * D, steps, WARPS), imag, score)
        added = added + (score,)
    return added
