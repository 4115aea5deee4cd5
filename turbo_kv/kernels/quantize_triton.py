"""New keys and values of one layer, centred, rotated, coded and written into pages: one launch.

A program is one warp and owns one page of one head. It runs along the page's fields; a field is 16
tokens, mixed where they are loaded (token_tiles.py): groups of 16 channels by H_16 on the tensor
cores, tokens times H_16 for keys and H_16 times tokens for values, groups among each other by sums
and differences. So a lane ends up with what its words hold, and none is exchanged. H stays
unnormalized: codes depend on y_i/‖y‖ alone, and scales divide by √D.

A level travels as one whole number, WEIGHT times its square rounded to a number whose low four bits
are the code. It is added up in fp32 from steps, 0 below a boundary and 1 above; a step is one
saturated difference, since H is raised so far that two numbers differ by 1 or not at all. Above
2^23 the bits of fp32 count whole numbers: their sum over a vector is the squared norm of the codes,
the low ones go into the word.

Keys lose R(j) μ: with j = page start + n the mean is turned to the page once, and by n < 64 from
the first rows of the table, which stay in L1. That rounds differently from `Center.key_offset`, and
sums run in another order than the reference's, so a coordinate may fall on the other side of a
boundary that it touches to within rounding. Does not know who owns the pages.
"""

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from turbo_kv.kernels import pages as layout
from turbo_kv.kernels.pages import Pages, page_count
from turbo_kv.kernels.token_tiles import (
    GROUP,
    RAISED,
    as_stored,
    by_token,
    grouped,
    hadamard,
    mix_channels,
    mix_groups,
    mix_tokens,
    mixed_mean,
    over_channels,
    side_by_side,
    tile,
    words_of,
)
from turbo_kv.quant.centering import Center
from turbo_kv.quant.quantizer import TurboQuantizer

PAGE = tl.constexpr(layout.PAGE)
FIELDS = tl.constexpr(layout.FIELDS)
WEIGHT = tl.constexpr(2.0**20)  # the square of the largest level, 7.5, stays below 2^23
WHOLE = tl.constexpr(2.0**23)  # fp32 counts by ones from here on
WHOLE_BITS = tl.constexpr(0x4B000000)  # of that number
MINUS_ONE = tl.constexpr(-0x40800000)  # the bits of -1


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
    grid = (page_count(tokens - 1) + 1, batch * heads, 2)
    matrix = quantizers[0].rotation.matrix
    means = (keys.scales, keys.scales) if center is None else (center.key_mean, center.value_mean)
    _append[grid](
        *(key_states, value_states, *key_states.stride()[:3], *value_states.stride()[:3]),
        *(keys.words.view(torch.int32), values.words.view(torch.int32)),
        *(keys.scales, values.scales, keys.length, *means, matrix, *cos_sin, matrix.stride(0)),
        *(heads, tokens, keys.words.shape[2], values.words.shape[2]),
        D=head_dim,
        BITS=keys.bits,
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
    squares = tuple(_tagged(level**2, half - 1 - n) for n, level in enumerate(levels))
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
    BITS: tl.constexpr,
    CENTRED: tl.constexpr,
    KEY_TABLES: tl.constexpr,
    VALUE_TABLES: tl.constexpr,
):
    stop = tl.load(length)
    start = stop - tokens
    page = start // PAGE + tl.program_id(0)
    head = tl.program_id(1)
    batch = head // heads
    if page * PAGE < stop:
        if tl.program_id(2) == 0:
            states = key_states + batch.to(tl.int64) * key_batch + (head % heads) * key_head
            place = head.to(tl.int64) * key_pages + page
            _page(
                states, key_token, key_words + place * (BITS * 2 * D), key_scales + place * PAGE,
                key_mean + head * D, matrix, matrix_row, cos, sin,
                page * PAGE, start, stop, D, BITS, 0, CENTRED, KEY_TABLES,
            )  # fmt: skip
        else:
            states = value_states + batch.to(tl.int64) * value_batch + (head % heads) * value_head
            place = head.to(tl.int64) * value_pages + page
            _page(
                states, value_token, value_words + place * (BITS * 2 * D),
                value_scales + place * PAGE, value_mean + head * D, matrix, matrix_row, cos, sin,
                page * PAGE, start, stop, D, BITS, 1, CENTRED, VALUE_TABLES,
            )  # fmt: skip


@triton.jit
def _page(  # noqa: PLR0917
    states, row_stride, words, scales, mean, matrix, matrix_row, cos, sin,
    first, start, stop,
    D: tl.constexpr, BITS: tl.constexpr, TOKENS: tl.constexpr, CENTRED: tl.constexpr,
    TABLES: tl.constexpr,
):  # fmt: skip
    """Code the tokens from `start` to `stop` that lie in the page beginning at slot `first`.

    TOKENS: which dimension of an operand they are, 0 for keys and 1 for values.
    """
    GROUPS: tl.constexpr = D // 16
    HALF: tl.constexpr = D // 2  # channels, whom RoPE turns with those of the other half
    group = tl.arange(0, GROUPS // 2)[:, None, None]
    place = tl.arange(0, GROUP)[None, None, :]
    channels = group // 2 * 32 + group % 2 * 4  # as `grouped` has them
    channels += place // 2 % 4 * 8 + place // 8 * 2 + place % 2
    left_signs = _signs(matrix + channels * matrix_row)
    right_signs = _signs(matrix + (channels + HALF) * matrix_row)
    if CENTRED:
        left_mean = tl.load(mean + channels).to(tl.float32)
        right_mean = tl.load(mean + channels + HALF).to(tl.float32)
        if TOKENS == 0:  # turned to the page's frame
            page_cos, page_sin = tl.load(cos + first * D + channels), tl.load(sin + first * D + channels)
            real = left_mean * page_cos - right_mean * page_sin
            imag = right_mean * page_cos + left_mean * page_sin
    if TOKENS == 1:
        left_matrix = hadamard()[None, :, :] * left_signs
        right_matrix = hadamard()[None, :, :] * right_signs
        left_added = tl.zeros((GROUPS // 2, 16, 16), tl.float32)
        right_added = left_added
        if CENTRED:
            left_added = mixed_mean(left_matrix, left_mean)
            right_added = mixed_mean(right_matrix, right_mean)

    # Fields that others share their words with go first and wait.
    waiting = tl.zeros((8, 4, GROUPS), tl.int32)
    slot = tl.arange(0, 16)
    for turn in range(0, FIELDS):
        field = (turn + 3) % 4 if BITS == 3 else turn ^ 1 if BITS == 2 else turn
        begin = first + 16 * field
        word = tl.zeros((8, 4, GROUPS), tl.int32)
        if _new(begin, start, stop):
            token, channel = tile(begin, HALF // 32, 32)
            there = (token >= start) & (token < stop)
            at = states + (token - start).to(tl.int64) * row_stride + channel
            left = grouped(tl.load(at, mask=there, other=0.0), HALF // 32, 32)
            right = grouped(tl.load(at + HALF, mask=there, other=0.0), HALF // 32, 32)
            if TOKENS == 0:
                left, right = left.to(tl.float32), right.to(tl.float32)
                nothing = tl.minimum(begin, 0).to(tl.float32)  # 0, but keeps from registers
                ls, rs = left_signs + nothing, right_signs + nothing
                if CENTRED:
                    re, im = real + nothing, imag + nothing
                    token, channel = tile(16 * field, HALF // 32, 4)
                    c = grouped(tl.load(cos + token * D + channel), HALF // 32, 4)
                    s = grouped(tl.load(sin + token * D + channel), HALF // 32, 4)
                    left = left - re * c + im * s
                    right = right - im * c - re * s
                left, right = mix_tokens(left * ls), mix_tokens(right * rs)
                upper, lower = left + right, left - right
            else:
                left, right = left.permute(0, 2, 1), right.permute(0, 2, 1)
                upper = mix_channels(left_matrix, left, left_added + right_added)
                upper = mix_channels(right_matrix, right, upper)
                lower = mix_channels(left_matrix, left, left_added - right_added)
                lower = mix_channels(-right_matrix, right, lower)
            y = mix_groups(upper) + mix_groups(lower)

            square = y[0] * y[0]
            for n in tl.static_range(1, GROUPS):
                square += y[n] * y[n]
            norms = tl.sqrt(over_channels(square, TOKENS))
            norm = by_token(norms, TOKENS)
            new = (begin + slot >= start) & (begin + slot < stop)
            inside = by_token(tl.where(new, 2**BITS - 1, 0), TOKENS)
            total = tl.zeros((16, 16), tl.int32)
            words_of_groups = ()
            for n in tl.static_range(GROUPS):
                level = tl.full((16, 16), WHOLE + TABLES[1][0], tl.float32)
                for m in tl.static_range(2 ** (BITS - 1) - 1):
                    step = tl.clamp(tl.abs(y[n]) - TABLES[0][m] * norm, 0.0, 1.0)
                    level += step * (TABLES[1][m + 1] - TABLES[1][m])
                level = level.to(tl.int32, bitcast=True)
                total += level - WHOLE_BITS
                above = y[n].to(tl.int32, bitcast=True) >> 31
                words_of_groups = words_of_groups + (words_of((level ^ above) & inside),)
            word = side_by_side(words_of_groups)
            total = over_channels(total, TOKENS).to(tl.float32)
            scale = norms * tl.rsqrt(total) * (WEIGHT**0.5 / RAISED)
            place_of = scales + slot % 8 * 8 + field * 2 + slot // 8
            tl.store(place_of, scale.to(tl.float16), mask=new)

        if BITS == 3:
            beside = first + 48  # of which tokens the spare bits are
            plane = field
            complete = turn > 0
            full = word | (waiting >> field & 0x11111111) << 3
            waiting = tl.where(turn > 0, waiting, word)
        elif BITS == 2:
            beside = begin + 16
            plane = field // 2
            complete = turn % 2 == 1
            full = word | waiting << 2
            waiting = word
        else:
            beside = begin
            plane = field
            complete = True
            full = word
        if complete & (_new(begin, start, stop) | _new(beside, start, stop)):
            stored = as_stored(full)
            at = words + plane * (2 * D) + tl.arange(0, D // 2)[:, None] * 4
            at += tl.arange(0, 4)[None, :]
            if first < start:
                low = tl.where(begin + slot < start, 2**BITS - 1, 0)
                high = tl.where(beside + slot < start, 15 & (-1 << BITS), 0)
                kept = words_of(tl.broadcast_to(by_token(low | high, TOKENS), (16, 16)))
                kept = tl.broadcast_to(kept[:, :, None], (8, 4, GROUPS))
                stored |= tl.load(at) & as_stored(kept)
            tl.store(at, stored)


@triton.jit
def _signs(entries):
    """Signs of a row of the rotation, negated."""
    signs = tl.load(entries).to(tl.int32, bitcast=True) >> 31 << 31
    return (signs ^ MINUS_ONE).to(tl.float32, bitcast=True)


@triton.jit
def _new(begin, start, stop):
    """Whether any of 16 tokens from slot `begin` on is new."""
    return (begin < stop) & (begin + 16 > start)
