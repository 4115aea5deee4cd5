"""New keys and values of one layer, centred, rotated, coded and written into pages: one launch.

A program is one warp and owns one page of one head. It runs along the page's fields; a field is 16
tokens, mixed where they are loaded (token_tiles.py): groups of 16 channels by H_16 on the tensor
cores, groups among each other by sums and differences. An fp32 value is there the sum of
its upper ten bits of mantissa and the exact rest, so products keep 22 bits. H stays unnormalized:
codes depend on y_i/‖y‖ alone, and scales divide by √D.

A level travels as one integer, WEIGHT times its square rounded to a number whose low four bits are
the code. Comparing with the boundaries selects it; its sum over a vector is the squared norm of the
codes, its low bits go into the word.

Keys lose R(j) μ: with j = page start + n the mean is turned to the page once, and by n < 128 from
the first rows of the table, which stay in L1. That rounds differently from `Center.key_offset`, and
sums run in another order than the reference's, so a coordinate may fall on the other side of a
boundary that it touches to within rounding. Does not know who owns the pages.
"""

from functools import lru_cache

import triton
import triton.language as tl
from torch import Tensor

from turbo_kv.kernels.pages import FIELDS, FIRST_BIT, ROWS, Pages, page_count
from turbo_kv.kernels.token_tiles import (
    GROUP,
    grouped,
    hadamard,
    mix_channels,
    mix_groups,
    tile,
    twice,
)
from turbo_kv.quant.centering import Center
from turbo_kv.quant.quantizer import TurboQuantizer

WEIGHT = tl.constexpr(2.0**21)  # 128 squares of the largest level, 7.5, stay below 2^31


def append(
    states: tuple[Tensor, Tensor],
    pages: tuple[Pages, Pages],
    quantizers: tuple[TurboQuantizer, TurboQuantizer],
    center: Center | None,
    cos_sin: tuple[Tensor, Tensor],
) -> None:
    """Code keys and values as the newest T of the `length` tokens of their pages.

    Whoever calls has added T to the length already; there must be room for them. Codes are those
    of the quantizers on centred states, but for ties; scales may differ in their last bit.
    states: keys and values (B, H, T, D), both fp16, bf16 or fp32, channels contiguous.
    pages: of keys and of values, of equal bits and with one length.
    quantizers: of keys and of values, of one rotation.
    cos_sin: of every slot there is room for, fp32 (capacity, D), rows contiguous.
    """
    key_states, value_states = states
    batch, heads, tokens, head_dim = key_states.shape
    keys, values = pages
    grid = (page_count(tokens - 1, keys.bits) + 1, batch * heads, 2)
    matrix = quantizers[0].rotation.matrix
    means = (keys.scales, keys.scales) if center is None else (center.key_mean, center.value_mean)
    _append[grid](
        *(key_states, value_states, *key_states.stride()[:3], *value_states.stride()[:3]),
        *(keys.words, values.words, keys.scales, values.scales, keys.length),
        *(*means, matrix, *cos_sin, matrix.stride(0)),
        *(heads, tokens, keys.words.shape[2], values.words.shape[2]),
        D=head_dim,
        GROUPS=head_dim // GROUP.value,
        BITS=keys.bits,
        FIELDS=FIELDS[keys.bits],
        FIRST_BIT=FIRST_BIT[keys.bits],
        ROWS=ROWS,
        CENTRED=center is not None,
        KEY_TABLES=tables(quantizers[0]),
        VALUE_TABLES=tables(quantizers[1]),
        num_warps=1,
        num_stages=1,
    )


@lru_cache(maxsize=64)
def tables(quantizer: TurboQuantizer) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Boundaries above zero, for ‖y‖ = 1, and weighted squares of the positive levels."""
    book = quantizer.codebook
    scale = quantizer.head_dim**0.5
    half = 2**book.bits // 2
    boundaries = tuple(boundary.item() for boundary in book.boundaries[half:])
    levels = [level.item() * scale for level in book.centroids[half:]]
    squares = tuple(_tagged(level**2, half + n) for n, level in enumerate(levels))
    return boundaries, squares


def _tagged(square: float, code: int) -> int:
    """WEIGHT · square, rounded to a number that ends in the code's four bits."""
    return 16 * round((WEIGHT.value * square - code) / 16) + code


@triton.jit
def _append(  # noqa: PLR0917 (a launch passes numbers and pointers)
    key_states,
    value_states,
    key_batch,
    key_head,
    key_token,
    value_batch,
    value_head,
    value_token,
    key_words,
    value_words,
    key_scales,
    value_scales,
    length,
    key_mean,
    value_mean,
    matrix,
    cos,
    sin,
    matrix_row,
    heads,
    tokens,
    key_pages,
    value_pages,
    D: tl.constexpr,
    GROUPS: tl.constexpr,
    BITS: tl.constexpr,
    FIELDS: tl.constexpr,
    FIRST_BIT: tl.constexpr,
    ROWS: tl.constexpr,
    CENTRED: tl.constexpr,
    KEY_TABLES: tl.constexpr,
    VALUE_TABLES: tl.constexpr,
):
    stop = tl.load(length)
    start = stop - tokens
    page = start // (ROWS * FIELDS) + tl.program_id(0)
    head = tl.program_id(1)
    batch = head // heads
    if page * ROWS * FIELDS < stop:
        if tl.program_id(2) == 0:
            states = key_states + batch.to(tl.int64) * key_batch + (head % heads) * key_head
            words = key_words + (head.to(tl.int64) * key_pages + page) * ROWS * D
            scales = key_scales + (head.to(tl.int64) * key_pages + page) * ROWS * FIELDS
            _page(
                states, key_token, words, scales, key_mean + head * D, matrix, matrix_row, cos, sin,
                page * ROWS * FIELDS, start, stop, D, GROUPS, BITS, FIELDS, FIRST_BIT, ROWS,
                CENTRED, CENTRED, KEY_TABLES,
            )  # fmt: skip
        else:
            states = value_states + batch.to(tl.int64) * value_batch + (head % heads) * value_head
            words = value_words + (head.to(tl.int64) * value_pages + page) * ROWS * D
            scales = value_scales + (head.to(tl.int64) * value_pages + page) * ROWS * FIELDS
            _page(
                states, value_token, words, scales, value_mean + head * D, matrix, matrix_row, cos,
                sin, page * ROWS * FIELDS, start, stop, D, GROUPS, BITS, FIELDS, FIRST_BIT, ROWS,
                CENTRED, False, VALUE_TABLES,
            )  # fmt: skip


@triton.jit
def _page(  # noqa: PLR0915, PLR0917
    states, row_stride, words, scales, mean, matrix, matrix_row, cos, sin,
    first, start, stop,
    D: tl.constexpr, GROUPS: tl.constexpr, BITS: tl.constexpr,
    FIELDS: tl.constexpr, FIRST_BIT: tl.constexpr, ROWS: tl.constexpr,
    CENTRED: tl.constexpr, TURNED: tl.constexpr,
    TABLES: tl.constexpr,
):  # fmt: skip
    """Code the tokens from `start` to `stop` that lie in the page beginning at slot `first`."""
    CHUNKS: tl.constexpr = D // 32
    rows = tl.arange(0, ROWS)
    group = tl.arange(0, GROUPS)[:, None, None]
    place = tl.arange(0, GROUP)[None, None, :]
    channels = group // 2 * 32 + group % 2 * 4  # as `grouped` has them
    channels += place // 2 % 4 * 8 + place // 8 * 2 + place % 2
    matrix_16 = hadamard()
    # Signs of the rotation, negated, and the mean in the page's frame: M, and the P that RoPE pairs
    # with it, so that the mean of token n is M cos θn + P sin θn.
    signs = tl.where(tl.load(matrix + channels * matrix_row) > 0, -1.0, 1.0)
    NUMBER: tl.constexpr = (
        tl.int16 if states.dtype.element_ty.primitive_bitwidth == 16 else tl.int32
    )
    TOP: tl.constexpr = states.dtype.element_ty.primitive_bitwidth - 1
    flips = ((signs < 0).to(tl.int32) << TOP).to(NUMBER)
    if CENTRED:
        center = tl.load(mean + channels).to(tl.float32)
        if TURNED:
            pair = first * D + channels % (D // 2)
            page_cos, page_sin = tl.load(cos + pair), tl.load(sin + pair)
            other = tl.load(mean + (channels + D // 2) % D).to(tl.float32)
            other = tl.where(channels < D // 2, -other, other)
            partner = other * page_cos - center * page_sin
            center = center * page_cos + other * page_sin
            partner = partner * signs
        center = center * signs

    packed = tl.zeros((GROUPS // 2, ROWS, GROUP), tl.int32)
    lowest = tl.maximum(start - first, 0) // ROWS
    highest = tl.minimum((stop - first + ROWS - 1) // ROWS, FIELDS)
    for back in range(0, highest - lowest):
        field = highest - 1 - back
        slot, channel = tile(first + ROWS * field, CHUNKS, 32)
        there = (slot >= start) & (slot < stop)
        at = states + (slot - start).to(tl.int64) * row_stride + channel
        x = grouped(tl.load(at, mask=there, other=0.0), CHUNKS, 32).to(NUMBER, bitcast=True)
        x = (x ^ flips).to(states.dtype.element_ty, bitcast=True).to(tl.float32)
        if CENTRED:
            if TURNED:
                slot, channel = tile(ROWS * field, CHUNKS // 2, 4)
                table = slot * D + channel
                c = twice(grouped(tl.load(cos + table), CHUNKS // 2, 4))
                s = twice(grouped(tl.load(sin + table), CHUNKS // 2, 4))
                x = x - center * c - partner * s
            else:
                x = x - center
        y = mix_channels(x.reshape(GROUPS * ROWS, GROUP), matrix_16)
        y = mix_groups(y.reshape(GROUPS, ROWS, GROUP), GROUPS)

        square = tl.sum(tl.sum(y * y, 0), 1)
        norm = tl.sqrt(square)[None, :, None]
        slots = first + ROWS * field + rows
        new = (slots >= start) & (slots < stop)
        inside = tl.where(new, 2**BITS - 1, 0)[None, :, None]
        size = tl.abs(y)
        level = tl.full((GROUPS, ROWS, GROUP), TABLES[1][0], tl.int32)
        for n in tl.static_range(2 ** (BITS - 1) - 1):
            level = tl.where(size > TABLES[0][n] * norm, TABLES[1][n + 1], level)
        total = tl.sum(tl.sum(level, 0), 1)
        above = y.to(tl.int32, bitcast=True) >> 31
        codes = (level ^ ~above) & inside
        left, right = tl.split(codes.reshape(2, GROUPS // 2, ROWS, GROUP).permute(1, 2, 3, 0))
        packed = (packed << BITS) + (left + (right << 16))
        scale = tl.sqrt(square / total.to(tl.float32) * WEIGHT)
        tl.store(scales + ROWS * field + rows, scale.to(tl.float16), mask=new)

    shift = FIRST_BIT + BITS * lowest
    older = tl.minimum(tl.maximum(start - first - rows + ROWS - 1, 0) // ROWS, FIELDS)
    newer = tl.minimum((stop - first - rows + ROWS - 1) // ROWS, FIELDS)  # fields of each row
    changed = (newer > older)[:, None]
    kept = (((1 << (BITS * older)) - 1) << FIRST_BIT)[:, None]
    packed = packed.reshape(CHUNKS // 2, 2, ROWS, 2, 4, 2).permute(2, 0, 4, 1, 3, 5)
    packed = packed.reshape(ROWS, D // 2)
    for half in tl.static_range(2):
        at = words + rows[:, None] * D + (tl.arange(0, D // 2) + half * (D // 2))[None, :]
        old = tl.load(at, mask=changed & (kept != 0), other=0).to(tl.int32) & kept
        word = (packed >> (16 * half) << shift) | old
        tl.store(at, word.to(tl.int16), mask=changed)
