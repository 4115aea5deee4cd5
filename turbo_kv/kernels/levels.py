"""Codebooks as polynomials, so that a GPU computes a level instead of looking it up.

A code c of b bits has its levels at gain · f(t), t = (c + 1/2) / 2^(b-1) - 1, between -1 and 1, with

    uniform     f(t) = t                 codes are levels already
    quadratic   f(t) = t (|t| + a)       three operations for two codes
    odd         f(t) = t (a + b t² + ..) Lloyd-Max: degree 3, 7, 9 for 2, 3, 4 bits

in fp16, two codes at once. A code reaches fp16 without arithmetic: with the b bits at position p
of a word, and 1024 and half a step OR-ed in, they read x = 1024 + 2^p (c + 1/2), and
t = x · 2^-(p+b-1) - (1024 / 2^(p+b-1) + 1) is exact. Knows nothing of attention.
"""

import struct
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from turbo_kv.kernels.pages import FIELDS, FIRST_BIT

TERMS = {2: 2, 3: 4, 4: 5}  # bits -> coefficients of the odd polynomial
TOLERANCE = 1.5e-3  # of any level; fp16 rounds a level by up to a third of it
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
class Field:
    """Where a code of a word ends up: the word shifted right by `shift` (left if negative) has it
    at bit `position`; unshifted, at bit `bit`."""

    bit: int
    shift: int
    position: int


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


def fields(bits: int) -> tuple[Field, ...]:
    """Every field of a word of `bits`-bit codes, where fp16 can read it: below bit 10, above 0."""
    found = []
    for index in range(FIELDS[bits]):
        bit = FIRST_BIT[bits] + bits * index
        shift = (9 if bit > 7 else 0) if bits == 3 else (7 if bit > 7 else -1)
        found.append(Field(bit, shift, bit - shift))
    return tuple(found)


def offset(field: Field, bits: int) -> float:
    """What x = 1024 + 2^p (c + 1/2) exceeds 2^(p + bits - 1) · t by."""
    return ONE + 2.0 ** (field.position + bits - 1)


def ptx(levels: Levels, *, raw: bool = False) -> tuple[str, ...]:
    """For every field, PTX from two words in a register ($1) to two fp16 levels f(t) ($0).

    raw: stop at x, for uniform levels whose offset the caller takes off.
    """
    return tuple(_field_ptx(levels, field, raw) for field in fields(levels.bits))


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


def _field_ptx(levels: Levels, field: Field, raw: bool) -> str:
    bits, position, shift = levels.bits, field.position, field.shift
    mask = (2**bits - 1) << position
    magic = 0x6400 | 1 << (position - 1)
    step = 2.0 ** -(position + bits - 1)
    moves = {True: f"shr.u32 w, $1, {shift};", False: f"shl.b32 w, $1, {-shift};"}
    lines = [
        moves[shift > 0] if shift else "mov.b32 w, $1;",
        f"lop3.b32 x, w, {_twice(mask)}, {_twice(magic)}, 0xEA;",
    ]
    if not raw:
        lines += [
            f"mov.b32 a, {_half2(step)};",
            f"mov.b32 b, {_half2(-offset(field, bits) * step)};",
            "fma.rn.f16x2 x, x, a, b;",
            *_polynomial(levels),
        ]
    return "\n".join(("{ .reg .b32 w, x, y, a, b;", *lines, "mov.b32 $0, x; }"))


def _polynomial(levels: Levels) -> list[str]:
    """PTX from t in x to f(t) in x."""
    if levels.kind == "uniform":
        return []
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
