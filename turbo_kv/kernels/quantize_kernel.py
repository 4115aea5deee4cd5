"""The Triton kernel that codes new tokens into pages. `quantize_triton.py` calls it.

A program is one warp and owns one page of one head. It runs along the page's fields; a field is 16
tokens, mixed where they are loaded (token_tiles.py): groups of 16 channels by H_16 on the tensor
cores, tokens times H_16 for keys and H_16 times tokens for values, groups among each other by sums
and differences. So a lane ends up with what its words hold, and none is exchanged. H stays
unnormalized: codes depend on y_i/‖y‖ alone, and scales divide by √D.

A level travels as one whole number, WEIGHT times its square rounded to a number whose low four bits
are the code of the negative level; the sign makes it the positive one's, its complement. It is
added up in fp32 from steps, 0 below a boundary and 1 above. A step is one saturated difference: H
is raised so far that two numbers above 2^-15 differ by 1 or not at all. Above 2^23 the bits of fp32
count whole numbers: their sum over a vector is the squared norm of the codes, the low ones go into
the word.

Keys lose R(j) μ: with j = page start + n the mean is turned to the page once, and by n < 64 from
the first rows of the table, which stay in L1. That rounds differently from `Center.key_offset`, and
sums run in another order than the reference's, so a coordinate may fall on the other side of a
boundary that it touches to within rounding. Does not know quantizers or caches.
"""

import triton
import triton.language as tl

from turbo_kv.kernels import pages as layout
from turbo_kv.kernels.page_operands import channel_at
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

PAGE = tl.constexpr(layout.PAGE)
FIELDS = tl.constexpr(layout.FIELDS)
WEIGHT = tl.constexpr(2.0**20)  # the square of the largest level, 7.5, stays below 2^23
WHOLE = tl.constexpr(2.0**23)  # fp32 counts by ones from here on
WHOLE_BITS = tl.constexpr(0x4B000000)  # of that number
MINUS_ONE = tl.constexpr(-0x40800000)  # the bits of -1


@triton.jit
def append_page(
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
def _page(
    states, row_stride, words, scales, mean, matrix, matrix_row, cos, sin,
    first, start, stop,
    D: tl.constexpr, BITS: tl.constexpr, TOKENS: tl.constexpr, CENTRED: tl.constexpr,
    TABLES: tl.constexpr,
):  # fmt: skip
    """Code the tokens from `start` to `stop` that lie in the page beginning at slot `first`.

    TOKENS: which dimension of an operand they are, 0 for keys and 1 for values.
    """
    GROUPS: tl.constexpr = D // GROUP
    HALF: tl.constexpr = D // 2  # RoPE turns a channel with that of the other half
    CHUNKS: tl.constexpr = HALF // 32
    group = tl.arange(0, GROUPS // 2)[:, None, None]
    place = tl.arange(0, GROUP)[None, None, :]
    channels = channel_at(group * GROUP + place)  # as `grouped` has them
    left_signs = _signs(matrix + channels * matrix_row)
    right_signs = _signs(matrix + (channels + HALF) * matrix_row)
    if CENTRED:
        left_mean = tl.load(mean + channels).to(tl.float32)
        right_mean = tl.load(mean + channels + HALF).to(tl.float32)
        if TOKENS == 0:
            page_cos = tl.load(cos + first * D + channels)
            page_sin = tl.load(sin + first * D + channels)
            real = left_mean * page_cos - right_mean * page_sin
            imag = right_mean * page_cos + left_mean * page_sin
    if TOKENS == 1:
        left_matrix = hadamard()[None, :, :] * left_signs
        right_matrix = hadamard()[None, :, :] * right_signs
        upper_added = tl.zeros((GROUPS // 2, 16, 16), tl.float32)
        lower_added = upper_added
        if CENTRED:
            left_mixed = mixed_mean(left_matrix, left_mean)
            right_mixed = mixed_mean(right_matrix, right_mean)
            upper_added = -left_mixed - right_mixed
            lower_added = right_mixed - left_mixed

    waiting = tl.zeros((8, 4, GROUPS), tl.int32)  # words of a field that others share theirs with
    slot = tl.arange(0, 16)
    for turn in range(0, FIELDS):
        field = (turn + 3) % 4 if BITS == 3 else turn ^ 1 if BITS == 2 else turn
        begin = first + 16 * field
        word = tl.zeros((8, 4, GROUPS), tl.int32)
        if _any_new(begin, start, stop):
            token, channel = tile(begin, CHUNKS, 32)
            there = (token >= start) & (token < stop)
            at = states + (token - start).to(tl.int64) * row_stride + channel
            left = grouped(tl.load(at, mask=there, other=0.0), CHUNKS, 32)
            right = grouped(tl.load(at + HALF, mask=there, other=0.0), CHUNKS, 32)
            if TOKENS == 0:
                nothing = tl.minimum(begin, 0).to(tl.float32)  # 0, but saves registers meanwhile
                left, right = left.to(tl.float32), right.to(tl.float32)
                if CENTRED:
                    token, channel = tile(16 * field, CHUNKS, 4)
                    c = grouped(tl.load(cos + token * D + channel), CHUNKS, 4)
                    s = grouped(tl.load(sin + token * D + channel), CHUNKS, 4)
                    left = left - (real + nothing) * c + (imag + nothing) * s
                    right = right - (imag + nothing) * c - (real + nothing) * s
                left = mix_tokens(left * (left_signs + nothing))
                right = mix_tokens(right * (right_signs + nothing))
                upper, lower = left + right, left - right
            else:
                left, right = left.permute(0, 2, 1), right.permute(0, 2, 1)
                upper = mix_channels(left_matrix, left, upper_added)
                upper = mix_channels(right_matrix, right, upper)
                lower = mix_channels(left_matrix, left, lower_added)
                lower = mix_channels(-right_matrix, right, lower)
            y = mix_groups(upper) + mix_groups(lower)

            square = y[0] * y[0]
            for n in tl.static_range(1, GROUPS):
                square += y[n] * y[n]
            norm = tl.sqrt(over_channels(square, TOKENS))
            new = (begin + slot >= start) & (begin + slot < stop)
            word, square = _words(y, norm, new, BITS, TOKENS, TABLES)
            scale = norm * tl.rsqrt(square) * (WEIGHT**0.5 / RAISED)
            lane = scales + slot % 8 * 8 + field * 2 + slot // 8
            tl.store(lane, scale.to(tl.float16), mask=new)

        if BITS == 3:
            plane = field
            beside = first + 48  # where the tokens of the spare bits begin
            full = word | (waiting >> field & 0x11111111) << 3
            complete = turn > 0
            waiting = tl.where(complete, waiting, word)
        elif BITS == 2:
            plane = field // 2
            beside = begin + 16
            full = word | waiting << 2
            complete = turn % 2 == 1
            waiting = word
        else:
            plane = field
            beside = begin
            full = word
            complete = True
        if complete & (_any_new(begin, start, stop) | _any_new(beside, start, stop)):
            stored = as_stored(full)
            index = tl.arange(0, HALF)[:, None] * 4 + tl.arange(0, 4)[None, :]
            if first < start:
                low = tl.where(begin + slot < start, 2**BITS - 1, 0)
                high = tl.where(beside + slot < start, 15 & (-1 << BITS), 0)
                older = words_of(tl.broadcast_to(by_token(low | high, TOKENS), (16, 16)))
                older = as_stored(tl.broadcast_to(older[:, :, None], (8, 4, GROUPS)))
                stored |= tl.load(words + plane * (2 * D) + index) & older
            tl.store(words + plane * (2 * D) + index, stored)


@triton.jit
def _words(y, norm, new, BITS: tl.constexpr, TOKENS: tl.constexpr, TABLES: tl.constexpr):
    """Words of one field (8, 4, D/16), zero but for new tokens, and weighted ‖levels‖² (16,), fp32.

    y: tuple of D/16 operands (16, 16). norm: of y, fp32 (16,). new: which tokens are, bool (16,).
    """
    norm = by_token(norm, TOKENS)
    mask = by_token(tl.where(new, 2**BITS - 1, 0), TOKENS)
    total = tl.zeros((16, 16), tl.int32)
    words = ()
    for n in tl.static_range(len(y)):
        level = tl.full((16, 16), WHOLE + TABLES[1][0], tl.float32)
        for m in tl.static_range(2 ** (BITS - 1) - 1):
            step = tl.clamp(tl.abs(y[n]) - TABLES[0][m] * norm, 0.0, 1.0)
            level += step * (TABLES[1][m + 1] - TABLES[1][m])
        level = level.to(tl.int32, bitcast=True)
        total += level - WHOLE_BITS
        sign = y[n].to(tl.int32, bitcast=True) >> 31
        words = words + (words_of((level ^ sign) & mask),)
    return side_by_side(words), over_channels(total, TOKENS).to(tl.float32)


@triton.jit
def _signs(entries):
    """Signs of a column of the rotation, negated, fp32 ±1."""
    signs = tl.load(entries).to(tl.int32, bitcast=True) >> 31 << 31
    return (signs ^ MINUS_ONE).to(tl.float32, bitcast=True)


@triton.jit
def _any_new(begin, start, stop):
    """Whether a token of the field beginning at slot `begin` is new."""
    return (begin < stop) & (begin + 16 > start)
