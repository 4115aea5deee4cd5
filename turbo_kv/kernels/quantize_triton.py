"""New keys and values of one layer, centred, rotated, coded and written into pages: one launch.

A program owns one page of one head. It runs along the page's fields; a field is 16 tokens, read in
groups of 16 channels. With H_D = H_(D/16) ⊗ H_16 a group is multiplied by H_16 on the tensor cores,
and groups are added and subtracted among each other in registers. An fp32 value is there the sum of
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
from turbo_kv.quant.centering import Center
from turbo_kv.quant.quantizer import TurboQuantizer

HEAD_DIMS = (32, 64, 128)
WEIGHT = tl.constexpr(2.0**21)  # 128 squares of the largest level, 7.5, stay below 2^31
GROUP = tl.constexpr(16)  # channels that one product mixes


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
def _page(  # noqa: PLR0912, PLR0915, PLR0917
    states, row_stride, words, scales, mean, matrix, matrix_row, cos, sin,
    first, start, stop,
    D: tl.constexpr, GROUPS: tl.constexpr, BITS: tl.constexpr,
    FIELDS: tl.constexpr, FIRST_BIT: tl.constexpr, ROWS: tl.constexpr,
    CENTRED: tl.constexpr, TURNED: tl.constexpr,
    TABLES: tl.constexpr,
):  # fmt: skip
    """Code the tokens from `start` to `stop` that lie in the page beginning at slot `first`."""
    rows = tl.arange(0, ROWS)
    channels = tl.arange(0, GROUP)
    hadamard = _hadamard()

    # Per group of channels: signs of the rotation, negated, and the mean, in the page's frame.
    signs, means = (), ()
    for g in tl.static_range(GROUPS):
        sign = tl.where(tl.load(matrix + (channels + g * GROUP) * matrix_row) > 0, -1.0, 1.0)
        signs += (sign,)
        if CENTRED:
            own = tl.load(mean + channels + g * GROUP).to(tl.float32)
            if TURNED:
                pair = first * D + channels + (g * GROUP) % (D // 2)
                other = tl.load(mean + channels + (g * GROUP + D // 2) % D).to(tl.float32)
                other = -other if g < GROUPS // 2 else other  # of the pair (-right, left)
                means += (own * tl.load(cos + pair) + other * tl.load(sin + pair),)
            else:
                means += (own * sign,)

    packed = ()
    for _ in tl.static_range(GROUPS // 2):
        packed += (tl.zeros((ROWS, GROUP), tl.int32),)
    lowest = tl.maximum(start - first, 0) // ROWS
    highest = tl.minimum((stop - first + ROWS - 1) // ROWS, FIELDS)

    for back in range(0, highest - lowest):
        field = highest - 1 - back
        slots = first + ROWS * field + rows
        new = (slots >= start) & (slots < stop)
        left, right = (), ()  # a group and the one that RoPE pairs it with share cosines and sines
        for g in tl.static_range(GROUPS // 2):
            at = states + (slots - start).to(tl.int64)[:, None] * row_stride
            at += (channels + g * GROUP)[None, :]
            x = tl.load(at, mask=new[:, None], other=0.0).to(tl.float32)
            z = tl.load(at + D // 2, mask=new[:, None], other=0.0).to(tl.float32)
            x_mean, z_mean = 0.0, 0.0
            if CENTRED:
                x_mean, z_mean = means[g][None, :], means[g + GROUPS // 2][None, :]
            if TURNED:
                table = (ROWS * field + rows)[:, None] * D + (channels + g * GROUP)[None, :]
                c, s = tl.load(cos + table), tl.load(sin + table)
                x = x - x_mean * c + z_mean * s
                z = z - z_mean * c - x_mean * s
                x_mean, z_mean = 0.0, 0.0
            x = x * signs[g][None, :] - x_mean
            z = z * signs[g + GROUPS // 2][None, :] - z_mean
            left += (_mix_channels(x, hadamard),)
            right += (_mix_channels(z, hadamard),)
        y = _mix_groups(left + right, GROUPS)

        squares = tl.zeros((ROWS, GROUP), tl.float32)
        for g in tl.static_range(GROUPS):
            squares += y[g] * y[g]
        square = tl.sum(squares, 1)
        norm = tl.sqrt(square)[:, None]
        inside = tl.where(new, 2**BITS - 1, 0)[:, None]
        total = tl.zeros((ROWS, GROUP), tl.int32)
        codes = ()
        for g in tl.static_range(GROUPS):
            size = tl.abs(y[g])
            level = tl.full((ROWS, GROUP), TABLES[1][0], tl.int32)
            for n in tl.static_range(2 ** (BITS - 1) - 1):
                level = tl.where(size > TABLES[0][n] * norm, TABLES[1][n + 1], level)
            total += level
            above = y[g].to(tl.int32, bitcast=True) >> 31
            codes += ((level ^ ~above) & inside,)
        pairs = ()
        for g in tl.static_range(GROUPS // 2):
            pairs += ((packed[g] << BITS) + (codes[g] + (codes[g + GROUPS // 2] << 16)),)
        packed = pairs
        scale = tl.sqrt(square / tl.sum(total, 1).to(tl.float32) * WEIGHT)
        tl.store(scales + ROWS * field + rows, scale.to(tl.float16), mask=new)

    shift = FIRST_BIT + BITS * lowest
    older = tl.maximum(start - first - rows + ROWS - 1, 0) // ROWS  # fields of each row
    kept = (((1 << (BITS * tl.minimum(older, FIELDS))) - 1) << FIRST_BIT)[:, None]
    for half in tl.static_range(2):
        for g in tl.static_range(GROUPS // 2):
            at = words + rows[:, None] * D + (channels + g * GROUP + half * (D // 2))[None, :]
            old = tl.load(at, mask=kept != 0, other=0).to(tl.int32) & kept
            tl.store(at, ((packed[g] >> (16 * half) << shift) | old).to(tl.int16))


@triton.jit
def _mix_channels(x, hadamard):
    """x times H_16: its upper bits, then the rest, which both are tf32 numbers."""
    upper = (x.to(tl.int32, bitcast=True) & ~0x1FFF).to(tl.float32, bitcast=True)
    mixed = tl.dot(upper, hadamard, input_precision="tf32")
    return tl.dot(x - upper, hadamard, mixed, input_precision="tf32")


@triton.jit
def _mix_groups(y, GROUPS: tl.constexpr):
    """The Walsh-Hadamard transform over the groups, unnormalized."""
    for level in tl.static_range(5):
        if 2**level < GROUPS:
            mixed = ()
            for g in tl.static_range(GROUPS):
                if (g >> level) & 1:
                    mixed += (y[g - 2**level] - y[g],)
                else:
                    mixed += (y[g] + y[g + 2**level],)
            y = mixed
    return y


@triton.jit
def _hadamard():
    """H_16, of ±1: entry (i, j) is -1 where i & j has an odd number of ones."""
    common = tl.arange(0, 16)[:, None] & tl.arange(0, 16)[None, :]
    common ^= common >> 2
    common ^= common >> 1
    return tl.where((common & 1) == 0, 1.0, -1.0)
