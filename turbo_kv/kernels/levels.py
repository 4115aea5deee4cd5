"""Codebooks as polynomials, so that a GPU computes a level instead of looking it up.

A code c of b bits has its level at gain · f(t), t = (c + 1/2) / 2^(b-1) - 1, within ±1, with

    uniform     f(t) = t                 codes are levels already
    quadratic   f(t) = t (|t| + a)       three operations for two codes
    odd         f(t) = t (a + b t² + ..) Lloyd-Max: degree 3, 7, 9 for 2, 3, 4 bits

in fp16, two codes at once. A code reaches fp16 without arithmetic: with the b bits at position p
of a word, and 1024 and half a step OR-ed in, they read x = 1024 + 2^p (c + 1/2), and
t = x · 2^-(p+b-1) - (1024 / 2^(p+b-1) + 1) is exact. Uniform levels are read raw: the masked bits
alone are the subnormal number x = c · 2^(p-24). Knows nothing of attention.
"""

import math
import struct
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from turbo_kv.kernels.pages import FIELDS, FIRST_BIT

TERMS = {2: 2, 3: 4, 4: 5}  # bits -> coefficients of the odd polynomial
TOLERANCE = 1.5e-3  # of any level; fp16 rounds a level by up to a third of it
ROOM, ROOM_RAW = 3, 8
ONE = 1024  # the fp16 number whose mantissa counts whole numbers


@dataclass(frozen=True)
class Levels:
    """A codebook a kernel can compute.

    kind: "uniform", "quadratic" or "odd". coefficients: a, b, ... above, rounded to fp16.
    """

    bits: int
    kind: str
    coefficients: tuple[float, ...]
    gain: float


@dataclass(frozen=True)
class Codes:
    """How a kernel reads one side, for each field of a word; a compile-time constant of it.

    raw: the subnormal x stands for a level. odd, quadratic: coefficients of f, or ().
    bit: where a code is.
    position: where it is read. step: how far t goes while x goes by one. ptx: from two words ($1)
    to two fp16 levels or x ($0); or (), to compute them without.
    room: log2 of what weights are raised by, so that weight times scale stays normal in fp16.
    peak: what the entries of the rotation matrix were divided by.
    """

    bits: int
    raw: bool
    odd: tuple[float, ...]
    quadratic: tuple[float, ...]
    bit: tuple[int, ...]
    position: tuple[int, ...]
    step: tuple[float, ...]
    ptx: tuple[str, ...]
    gain: float
    room: float
    peak: float


def find_levels(centroids: Tensor) -> Levels:
    """The cheapest polynomial through a codebook's centroids (2^bits,), ascending.

    Raises ValueError for a codebook that is not symmetric or that none of the three describes.
    """
    levels = centroids.double().cpu()
    bits = len(levels).bit_length() - 1
    half = levels[len(levels) // 2 :]
    t = (torch.arange(len(half)) + 0.5).double() / len(half)
    if not torch.allclose(-half.flip(0), levels[: len(half)], rtol=TOLERANCE):
        raise ValueError("the codebook is not symmetric about 0; the kernel reads symmetric ones")
    square = torch.stack((t * t, t), 1)
    odd = torch.stack([t ** (2 * i + 1) for i in range(TERMS[bits])], 1)
    top, quadratic, odd = half[-1], *(_least_squares(terms, half) for terms in (square, odd))
    inner = {
        "uniform": [half[:0]],
        "quadratic": [quadratic[1:] / quadratic[0] + step / ONE for step in range(-16, 17)],
        "odd": [odd / top],
    }
    for kind, choices in inner.items():
        tried = [_scaled(bits, kind, choice, t, half) for choice in choices]
        best = min(tried, key=lambda one: _error(one, t, half))
        if _error(best, t, half) < TOLERANCE:
            return best
    raise ValueError(f"no short polynomial gives the levels {half.tolist()} of the codebook")


def evaluate(levels: Levels, t: Tensor) -> Tensor:
    """f(t) in fp16, rounded at each step as the kernel rounds."""
    t = t.half()
    if levels.kind == "uniform":
        return t
    if levels.kind == "quadratic":
        return t * (t.abs() + levels.coefficients[0])
    square, value = (t * t).double(), torch.full_like(t, levels.coefficients[-1])
    for coefficient in reversed(levels.coefficients[:-1]):
        value = (value.double() * square + coefficient).half()
    return value * t


def codes(levels: Levels, *, peak: float, inline: bool) -> Codes:
    """What a kernel needs to read these levels, with PTX if `inline`."""
    bits = levels.bits
    bit = tuple(FIRST_BIT[bits] + bits * field for field in range(FIELDS[bits]))
    shift = tuple(_shift(bits, one) for one in bit)
    position = tuple(one - by for one, by in zip(bit, shift, strict=True))
    step = tuple(2.0 ** -(one + bits - 1) for one in position)
    texts = (_ptx(levels, *each) for each in zip(shift, position, step, strict=True))
    raw = levels.kind == "uniform"
    return Codes(
        bits=bits,
        raw=raw,
        odd=levels.coefficients if levels.kind == "odd" else (),
        quadratic=levels.coefficients if levels.kind == "quadratic" else (),
        bit=bit,
        position=position,
        step=step,
        ptx=tuple(texts) if inline else (),
        gain=levels.gain,
        room=math.log2(levels.gain) + (ROOM_RAW if raw else ROOM),
        peak=peak,
    )


def _shift(bits: int, bit: int) -> int:
    """How far right a word moves so that fp16 can read the code at `bit`: above 0, below 10."""
    if bits == 3:
        return 9 if bit > 7 else 0
    return 7 if bit > 7 else -1


def _least_squares(terms: Tensor, half: Tensor) -> Tensor:
    return torch.linalg.lstsq(terms, half.unsqueeze(1)).solution.squeeze(1)


def _scaled(bits: int, kind: str, coefficients: Tensor, t: Tensor, half: Tensor) -> Levels:
    """The levels of rounded coefficients, with the gain that suits them best."""
    levels = Levels(bits, kind, tuple(coefficients.half().tolist()), 1.0)
    value = evaluate(levels, t).double()
    return replace(levels, gain=(value @ half / (value @ value)).item())


def _error(levels: Levels, t: Tensor, half: Tensor) -> float:
    """The largest error of a level, relative to that level."""
    return (evaluate(levels, t).double() * levels.gain / half - 1).abs().max().item()


def _ptx(levels: Levels, shift: int, position: int, step: float) -> str:
    mask = (2**levels.bits - 1) << position
    magic = 0x6400 | 1 << (position - 1)  # 1024 and half a step
    move = f"shr.u32 w, $1, {shift};" if shift > 0 else f"shl.b32 w, $1, {-shift};"
    lines = [
        move if shift else "mov.b32 w, $1;",
    ]
    if levels.kind == "uniform":
        lines.append(f"and.b32 x, w, {_twice(mask)};")
    else:
        lines += [
            f"lop3.b32 x, w, {_twice(mask)}, {_twice(magic)}, 0xEA;",  # (w & mask) | magic
            f"mov.b32 a, {_half2(step)};",
            f"mov.b32 b, {_half2(-ONE * step - 1)};",
            "fma.rn.f16x2 x, x, a, b;",
            *_polynomial(levels),
        ]
    return "\n".join(("{ .reg .b32 w, x, y, a, b;", *lines, "mov.b32 $0, x; }"))


def _polynomial(levels: Levels) -> list[str]:
    """PTX from t in x to f(t) in x."""
    if levels.kind == "quadratic":
        a = _half2(levels.coefficients[0])
        return ["abs.f16x2 y, x;", f"mov.b32 a, {a};", "add.f16x2 y, y, a;", "mul.f16x2 x, x, y;"]
    *lower, highest = levels.coefficients
    lines = ["mul.f16x2 a, x, x;", f"mov.b32 y, {_half2(highest)};"]
    for coefficient in reversed(lower):
        lines += [f"mov.b32 b, {_half2(coefficient)};", "fma.rn.f16x2 y, y, a, b;"]
    return [*lines, "mul.f16x2 x, x, y;"]


def _twice(pattern: int) -> str:
    return f"0x{pattern:04X}{pattern:04X}"


def _half2(value: float) -> str:
    return _twice(struct.unpack("<H", struct.pack("<e", value))[0])
