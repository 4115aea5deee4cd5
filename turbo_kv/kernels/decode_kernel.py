"""The Triton kernels of decode attention on packed pages. `decode_triton.py` calls them.

A program has W warps and reads W pages at a time. Every warp owns a page (the batch dimension of
each dot), so the main loop has no barrier and no shared memory; queries and output are permuted
to the order of channels in which words arrive, once. With field s of a page as operand A and the
8 queries of a KV head on the narrow side,

    Sᵀ[16, 8] = K_s[16, D] qᵀ[D, 8]        Oᵀ[D, 8] += V_sᵀ[D, 16] P_s[16, 8]

Softmax runs in base 2, in fp32. Does not know quantizers or caches.
"""

import triton
import triton.language as tl

from turbo_kv.kernels import pages as layout
from turbo_kv.kernels.early_launch import begin_in_turn
from turbo_kv.kernels.mean_phases import add_mean, operand, pairs, phases, turn
from turbo_kv.kernels.page_operands import (
    by_field,
    channel_at,
    key_field,
    prefetch,
    scales_of,
    tables_of,
    transposed,
    valid,
    value_field,
    words_of,
)

EMPTY = tl.constexpr(-1e30)  # the score of what is masked, and the log-sum-exp of nothing
LOWEST = tl.constexpr(-1e20)  # a maximum far above EMPTY, so that what is masked weighs 0
QUERIES = tl.constexpr(8)
PAGE = tl.constexpr(layout.PAGE)
FIELDS = tl.constexpr(layout.FIELDS)
AHEAD = tl.constexpr(2)  # tiles whose words are on their way into the L2 cache


@triton.jit
def _rotated(vectors, matrix, rows, D: tl.constexpr):
    """Rows `rows` of the matrix (D, D) times vectors (D, 8), nearly as exact as fp32."""
    taken = tl.load(matrix + rows[:, None] * D + tl.arange(0, D)[None, :])
    return _exact_dot(taken, vectors)


@triton.jit
def _exact_dot(a, vectors):
    """An fp16 matrix times fp32 vectors, in two parts."""
    high = vectors.to(tl.float16)
    low = (vectors - high.to(tl.float32)).to(tl.float16)
    return tl.dot(a, high) + tl.dot(a, low)


@triton.jit
def _tile(
    state, keys, values, key_scales, value_scales, queries, mean, tables,
    tile, stride, first, length, last,
    WARPS: tl.constexpr, D: tl.constexpr, KEYS: tl.constexpr, VALUES: tl.constexpr,
    CENTRED: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """The state after W more pages: words and scales of their keys, output, maximum, sums, phases.

    The keys of the next tile, `stride` tiles on, fly while this one's values are weighed. WHOLE:
    all of its tokens are stored, and none is padding.
    """
    key_words, key_scale, output, maximum, sums, real, imag = state
    value_words = words_of(values, tile, last, WARPS, D, VALUES)
    if len(VALUES.ptx):
        prefetch(keys, tile + AHEAD * stride, last, WARPS, D, KEYS)
        prefetch(values, tile + AHEAD * stride, last, WARPS, D, VALUES)
    value_scale = scales_of(value_scales, tile, last, WARPS)
    token = (tile * WARPS + tl.arange(0, WARPS))[:, None] * PAGE + tl.arange(0, 16)[None, :]
    if CENTRED:
        turned_real = operand(real, D // 32, WARPS)
        turned_imag = operand(imag, D // 32, WARPS).to(tl.float16)
        base = tl.sum(turned_real, 1)[:, None, :]
        turned_real = turned_real.to(tl.float16)
        _, _, pair = pairs(D // 32, WARPS)
        pair += tl.minimum(stride * WARPS, last) * (PAGE * D)
        pair += tl.minimum(tile, 0) * 4  # 0, as for the table
        real, imag = turn(real, imag, tl.load(mean[1] + pair), tl.load(mean[2] + pair))
    by_key = by_field(key_scale, WARPS)
    scores = ()
    for s in tl.static_range(FIELDS):
        score = tl.dot(key_field(key_words, s, tables[0], WARPS, D, KEYS), queries) * by_key[s]
        if CENTRED:
            score = score + base
        if not WHOLE:
            there = valid(token + 16 * s, first, length)
            score = tl.where(there[:, :, None], score, EMPTY)
        scores = scores + (score,)
    if CENTRED:
        scores = add_mean(scores, mean[0], turned_real, turned_imag, tile, WARPS, D)
    key_words = words_of(keys, tile + stride, last, WARPS, D, KEYS)
    key_scale = scales_of(key_scales, tile + stride, last, WARPS)
    highest = tl.maximum(scores[0], scores[1])
    highest = tl.maximum(highest, tl.maximum(scores[2], scores[3]))
    highest = tl.maximum(maximum, tl.max(highest, 1))
    fade = tl.exp2(maximum - highest)
    reference = highest - VALUES.room
    output = output * fade[:, None, :]
    sums = sums * fade[:, None, :]
    by_value = by_field(value_scale, WARPS)
    for s in tl.static_range(FIELDS):
        weights = tl.exp2(scores[s] - reference[:, None, :])
        sums += weights
        scale = by_value[s]
        if not WHOLE:
            there = valid(token + 16 * s, first, length)
            scale = tl.where(there[:, :, None], scale, 0.0)
        weights = (weights * scale).to(tl.float16)
        weights = transposed(weights, WARPS, len(VALUES.ptx) > 0)
        output = tl.dot(value_field(value_words, s, tables[1], WARPS, D, VALUES), weights, output)
    return key_words, key_scale, output, highest, sums, real, imag


@triton.jit(do_not_specialize=["pages", "groups", "kv_heads"])
def decode_split(
    query_states, keys, key_scales, values, value_scales, lengths, firsts,
    key_matrix, key_mean, table, cos, sin, key_tables, value_tables,
    outputs, sums_out, scaling, pages, groups, kv_heads,
    WARPS: tl.constexpr, D: tl.constexpr, KEYS: tl.constexpr, VALUES: tl.constexpr,
    CENTRED: tl.constexpr, PADDED: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Attention of one KV head's queries over every splits-th tile; grid (B · H_kv, splits).

    outputs (B · H_kv, 8, splits, D), fp16, each over its largest number, rotated and in the order
    of `channel_at`; sums_out (B · H_kv, 8, splits, 2), fp32: log-sum-exp, and that largest.
    """
    head = tl.program_id(0).to(tl.int64)
    split = tl.program_id(1)
    splits = tl.num_programs(1)
    begin_in_turn(PDL)
    length = tl.load(lengths)
    first = None
    begin = split
    whole = length // (PAGE * WARPS)  # tiles without a token that is not there
    if PADDED:
        first = tl.load(firsts + head // kv_heads)
        begin += first // (PAGE * WARPS)
        whole = 0
    end = tl.cdiv(length, PAGE * WARPS)
    keys += head * pages * (4 * D * KEYS.bits)
    values += head * pages * (4 * D * VALUES.bits)
    key_scales += head * pages * PAGE
    value_scales += head * pages * PAGE

    last = pages - 1
    # The first words fly while the queries are rotated; they do not wait for the length.
    key_words = words_of(keys, begin, last, WARPS, D, KEYS)
    key_scale = scales_of(key_scales, begin, last, WARPS)

    tables = (tables_of(key_tables, WARPS, KEYS), tables_of(value_tables, WARPS, VALUES))
    column = tl.arange(0, QUERIES)
    channel = tl.arange(0, D)
    rows = query_states + (head * groups + column)[None, :] * D
    query = tl.load(rows + channel[:, None], (column < groups)[None, :], 0.0).to(tl.float32)
    rotated = _rotated(query, key_matrix, channel_at(channel), D)
    rotated = rotated * (scaling * KEYS.peak * KEYS.gain)
    queries = tl.broadcast_to(rotated.to(tl.float16)[None, :, :], (WARPS, D, QUERIES))
    real = 0.0
    imag = 0.0
    mean = ()
    if CENTRED:
        _, query_index, pair = pairs(D // 32, WARPS)
        row = query_states + ((head * groups + query_index) * D)[:, None] + pair
        there = (query_index < groups)[:, None]
        mean = (table, cos, sin, row, there, key_mean + head * D + pair, scaling)
        real, imag = phases(mean, begin, last, WARPS, D)

    state = (
        key_words,
        key_scale,
        tl.zeros((WARPS, D, QUERIES), tl.float32),
        tl.full((WARPS, QUERIES), LOWEST, tl.float32),
        tl.zeros((WARPS, 16, QUERIES), tl.float32),
        real,
        imag,
    )
    for tile in range(begin, whole, splits):
        state = _tile(
            state, keys, values, key_scales, value_scales, queries, mean, tables,
            tile, splits, first, length, last, WARPS, D, KEYS, VALUES, CENTRED, True,
        )  # fmt: skip
    begin += tl.cdiv(tl.maximum(whole - begin, 0), splits) * splits
    for tile in range(begin, end, splits):
        state = _tile(
            state, keys, values, key_scales, value_scales, queries, mean, tables,
            tile, splits, first, length, last, WARPS, D, KEYS, VALUES, CENTRED, False,
        )  # fmt: skip

    output, maximum, sums = state[2], state[3], state[4]
    highest = tl.max(maximum, 0)
    weight = tl.exp2(maximum - highest[None, :])
    total = tl.sum(tl.sum(sums, 1) * weight, 0)
    some = total > 0
    total = tl.where(some, total, 1.0)
    factor = weight * (VALUES.gain * VALUES.peak / total)[None, :]
    output = _warps_together(output * factor[:, None, :], WARPS, D)
    place = (head * QUERIES + column) * splits + split
    largest = tl.max(tl.abs(output), 0)
    output = output / tl.where(largest > 0, largest, 1.0)[None, :]
    tl.store(outputs + place[None, :] * D + channel[:, None], output.to(tl.float16))
    log_sum = highest - VALUES.room + tl.log2(total)
    tl.store(sums_out + 2 * place, tl.where(some, log_sum, EMPTY))
    tl.store(sums_out + 2 * place + 1, largest)


@triton.jit
def _warps_together(x, WARPS: tl.constexpr, D: tl.constexpr):
    """The sum (D, 8) of x (WARPS, D, 8): halves change hands in far fewer steps than `tl.sum`."""
    tl.static_assert(WARPS == 4)
    left, right = tl.split(x.reshape(2, 2, D, QUERIES).permute(0, 2, 3, 1))
    left, right = tl.split((left + right).permute(1, 2, 0))
    return left + right


@triton.jit(do_not_specialize=["splits", "groups", "newest", "kv_heads"])
def decode_combine(
    outputs, sums, matrix, value_mean, attended, splits, groups,
    query_states, newest_keys, newest_values, lengths, firsts, scaling, newest, kv_heads,
    D: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr, NEWEST: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """Weigh the splits of one query head together and un-rotate the sum; grid (B · H_q,).

    outputs, sums: as `decode_split` leaves them; outputs of any width.
    matrix: of the values, (D, D); None for outputs that are not rotated and in order.
    newest_keys, newest_values: (B, H_kv, newest, D), as they are, after the tokens of the splits.
    BLOCK: at least the splits, a power of two; NEWEST: at least `newest`, or 0 without any.
    CHUNK: how many splits are summed in one place.
    """
    query = tl.program_id(0).to(tl.int64)
    head = query // groups
    channel = tl.arange(0, D)
    # While the splits still run; what they waited for is there.
    if matrix is not None:
        inverse = tl.load(matrix + channel_at(channel)[:, None] * D + channel[None, :])
    if value_mean is not None:
        mean = tl.load(value_mean + head * D + channel).to(tl.float32)
    if NEWEST:
        token = tl.arange(0, NEWEST)
        place = (head * newest + token)[:, None] * D + channel[None, :]
        keys = tl.load(newest_keys + place, (token < newest)[:, None], 0.0).to(tl.float32)
        asked = tl.load(query_states + query * D + channel).to(tl.float32) * scaling
        scores = tl.sum(keys * asked[None, :], 1)
        first = None
        if firsts is not None:
            first = tl.load(firsts + head // kv_heads)
        length = tl.load(lengths)
        scores = tl.where(valid(length + token, first, length + newest), scores, EMPTY)
        values = tl.load(newest_values + place, (token < newest)[:, None], 0.0).to(tl.float32)
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    row = (head * 8 + query % groups) * splits
    outputs += row * D
    sums += row * 2
    parts = ()
    for start in tl.static_range(0, BLOCK, CHUNK):
        split = (start + tl.arange(0, CHUNK))[:, None]
        place = outputs + split * D + channel[None, :]
        parts += (tl.load(place, split < splits, 0.0),)
    split = tl.arange(0, BLOCK)
    log_sum = tl.load(sums + split * 2, split < splits, EMPTY)
    highest = tl.max(log_sum, 0)
    if NEWEST:
        highest = tl.maximum(highest, tl.max(scores, 0))
    packed = tl.sum(tl.where(split < splits, tl.exp2(log_sum - highest), 0.0), 0)
    total = packed
    if NEWEST:
        weights = tl.exp2(scores - highest)
        total += tl.sum(weights, 0)
    weighted = tl.zeros((CHUNK, D), tl.float32)
    for start in tl.static_range(0, BLOCK, CHUNK):
        split = start + tl.arange(0, CHUNK)
        weight = tl.exp2(tl.load(sums + split * 2, split < splits, EMPTY) - highest)
        weight *= tl.load(sums + split * 2 + 1, split < splits, 0.0)
        weighted += parts[start // CHUNK] * weight[:, None]
    output = tl.sum(weighted, 0) / total
    if matrix is not None:
        output = tl.sum(inverse.to(tl.float32) * output[:, None], 0)
    if value_mean is not None:
        output += mean * (packed / total)
    if NEWEST:
        output += tl.sum(values * weights[:, None], 0) / total
    tl.store(attended + query * D + channel, output.to(attended.dtype.element_ty))
