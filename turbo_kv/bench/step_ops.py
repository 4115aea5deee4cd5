"""What a decode step does between its products, one launch each: no launch should hide a cache.

bf16 in and out, fp32 within. Launches are prepared while those before them end, as those of
attention are. Knows nothing of caches.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from turbo_kv.kernels.early_launch import begin_in_turn, early

BLOCK = 1024


def turn(heads: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Rotate heads (B, H, D), rows contiguous, to one position in place; cos, sin fp32 (1, D)."""
    batch, count, width = heads.shape
    shape = {"HALF": width // 2, "num_warps": 1}
    _turn[batch, count](heads, cos, sin, heads.stride(0), **shape, **early(heads.device))


def gated(gate_up: Tensor) -> Tensor:
    """silu(gate) · up of (B, 2 C): (B, C)."""
    width = gate_up.shape[1] // 2
    out = gate_up.new_empty(len(gate_up), width)
    grid = len(gate_up), triton.cdiv(width, BLOCK)
    _gated[grid](gate_up, out, width, BLOCK=BLOCK, **early(out.device))
    return out


def added_and_normed(x: Tensor, more: Tensor, weight: Tensor) -> Tensor:
    """Add `more` to x (B, C) in place; x over its root mean square, times the weight (C,)."""
    out = torch.empty_like(x)
    width = x.shape[1]
    block = triton.next_power_of_2(width)
    shape = {"BLOCK": block, "num_warps": 8}
    _added_and_normed[(len(x),)](x, more, weight, out, width, **shape, **early(out.device))
    return out


@triton.jit
def _turn(heads, cos, sin, row, HALF: tl.constexpr, PDL: tl.constexpr):  # noqa: PLR0917
    begin_in_turn(PDL)
    pair = tl.arange(0, HALF)
    at = heads + tl.program_id(0) * row + tl.program_id(1) * 2 * HALF + pair
    left, right = tl.load(at).to(tl.float32), tl.load(at + HALF).to(tl.float32)
    c, s = tl.load(cos + pair), tl.load(sin + pair)
    tl.store(at, (left * c - right * s).to(tl.bfloat16))
    tl.store(at + HALF, (right * c + left * s).to(tl.bfloat16))


@triton.jit
def _gated(gate_up, out, width, BLOCK: tl.constexpr, PDL: tl.constexpr):
    begin_in_turn(PDL)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    gate = tl.load(gate_up + tl.program_id(0) * 2 * width + column, inside, 0.0).to(tl.float32)
    up = tl.load(gate_up + (tl.program_id(0) * 2 + 1) * width + column, inside, 0.0)
    silu = gate / (1 + tl.exp(-gate))
    tl.store(
        out + tl.program_id(0) * width + column, (silu * up.to(tl.float32)).to(tl.bfloat16), inside
    )


@triton.jit
def _added_and_normed(x, more, weight, out, width, BLOCK: tl.constexpr, PDL: tl.constexpr):  # noqa: PLR0917
    begin_in_turn(PDL)
    column = tl.arange(0, BLOCK)
    inside = column < width
    at = tl.program_id(0) * width + column
    total = tl.load(x + at, inside, 0.0).to(tl.float32) + tl.load(more + at, inside, 0.0).to(
        tl.float32
    )
    total = total.to(tl.bfloat16).to(tl.float32)
    tl.store(x + at, total.to(tl.bfloat16), inside)
    size = tl.sqrt(tl.sum(total * total, 0) / width + 1e-6)
    normed = total / size * tl.load(weight + column, inside, 0.0).to(tl.float32)
    tl.store(out + at, normed.to(tl.bfloat16), inside)
