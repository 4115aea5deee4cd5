"""The Triton kernels of decode attention on packed pages. `decode_triton.py` calls them.

A program has W warps and reads W pages at a time. Every warp owns a page (the batch dimension of
each dot), so the main loop has no barrier and no shared memory: words go from memory straight into
the registers in which the matrix unit wants them. A lane loads 16 bytes; `_key_channel` and
`_value_channel` say which channel lands where, and queries and output are permuted to match, once.
With field s of a page as operand A and the 8 queries of a KV head on the narrow side,

    Sᵀ[16, 8] = K_s[16, D] qᵀ[D, 8]        Oᵀ[D, 8] += V_sᵀ[D, 16] P_s[16, 8]

Softmax runs in base 2, in fp32. Does not know quantizers or caches.
"""

import triton
import triton.language as tl

EMPTY = tl.constexpr(-1e30)  # the score of what is masked, and the log-sum-exp of nothing
LOWEST = tl.constexpr(-1e20)  # a maximum far above EMPTY, so that what is masked weighs 0
QUERIES = tl.constexpr(8)


@triton.jit
def _key_channel(k):
    """The channel at position k of the keys' inner dimension."""
    return (k & ~31) + ((k >> 1) & 3) * 8 + ((k >> 4) & 1) * 4 + ((k >> 3) & 1) * 2 + (k & 1)


@triton.jit
def _value_channel(m):
    """The channel at position m of the values' outer dimension."""
    return (m & ~63) + (m & 7) * 8 + ((m >> 4) & 3) * 2 + ((m >> 3) & 1)


@triton.jit
def _key_words(words, tile, last, WARPS: tl.constexpr, D: tl.constexpr):
    """Words of pages tile·WARPS onwards, at most `last`: int16 (WARPS, 16, D)."""
    chunks: tl.constexpr = D // 32
    index = tl.arange(0, 16 * WARPS * chunks)  # row high, chunk, warp, row low
    row = index % 8 + index // (8 * WARPS * chunks) * 8
    page = tl.minimum(tile * WARPS + index // 8 % WARPS, last)
    offset = page * (16 * D) + row * D + index // (8 * WARPS) % chunks * 32
    loaded = tl.load(words + offset[:, None] + tl.arange(0, 32)[None, :])
    loaded = loaded.reshape(2, chunks, WARPS, 8, 4, 2, 2, 2)
    return loaded.permute(2, 0, 3, 1, 5, 6, 4, 7).reshape(WARPS, 16, D)


@triton.jit
def _value_words(
    words, tile, block: tl.constexpr, last, WARPS: tl.constexpr, D: tl.constexpr, PER: tl.constexpr
):
    """Words of one page for each warp, int16 (WARPS, D, 16), at most page `last`.

    PER: (fields of a key page, fields of a value page). Where they differ a warp's tokens spread
    over several value pages, and `block` says which 16 tokens of the key page are wanted.
    """
    chunks: tl.constexpr = D // 64
    index = tl.arange(0, 128 * WARPS * chunks)  # row high, row low, chunk, warp, octet, row middle
    row = index % 4 * 2 + index // (64 * WARPS * chunks) * 8 + index // (32 * WARPS * chunks) % 2
    page = tile * WARPS + index // 32 % WARPS
    if PER[0] != PER[1]:
        page = (page * PER[0] + block) // PER[1]
    page = tl.minimum(page, last)
    offset = page * (16 * D) + row * D + index // (32 * WARPS) % chunks * 64 + index // 4 % 8 * 8
    loaded = tl.load(words + offset[:, None] + tl.arange(0, 8)[None, :])
    loaded = loaded.reshape(2, 2, chunks, WARPS, 8, 4, 4, 2)
    return loaded.permute(3, 2, 6, 7, 4, 0, 5, 1).reshape(WARPS, D, 16)


@triton.jit
def _level(code, position: tl.constexpr, CODES: tl.constexpr):
    """Codes as fp16 levels f(t); or, read raw, as code · 2^(position - 24), subnormal numbers."""
    step: tl.constexpr = 2.0 ** -(position + CODES.bits - 1)
    if CODES.raw:
        x = (code * 2.0 ** (position - 24)).to(tl.float16)
    else:
        x = (1024 + (2 * code + 1) * (1 << (position - 1))).to(tl.float16)
        x = x * step - (1024 * step + 1)
        if len(CODES.quadratic):
            x = x * (tl.abs(x) + CODES.quadratic[0])
        if len(CODES.odd):
            square = x * x
            y = tl.full(x.shape, CODES.odd[len(CODES.odd) - 1], tl.float16)
            for i in tl.static_range(len(CODES.odd) - 1):
                y = y * square + CODES.odd[len(CODES.odd) - 2 - i]
            x = x * y
    return x


@triton.jit
def _field(words, field: tl.constexpr, CODES: tl.constexpr):
    """Field `field` of words as `_level` gives it."""
    if len(CODES.ptx):
        return tl.inline_asm_elementwise(
            CODES.ptx[field], "=r,r", [words], dtype=tl.float16, is_pure=True, pack=2
        )
    else:
        code = (words.to(tl.int32) >> CODES.bit[field]) & ((1 << CODES.bits) - 1)
        return _level(code, CODES.position[field], CODES)


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
def _pairs(steps: tl.constexpr, WARPS: tl.constexpr):
    """For every element of operand B its warp, query and RoPE pair, (steps · WARPS · 32, 4).

    Rows are steps, warps, queries and the lanes t of a query, who hold the pairs from 4·steps·t on.
    """
    index = tl.arange(0, steps * WARPS * 32)
    pair = (index % 4 * 4 * steps + index // (32 * WARPS) * 4)[:, None] + tl.arange(0, 4)[None, :]
    return index // 32 % WARPS, index // 4 % 8, pair


@triton.jit
def _operand(x, steps: tl.constexpr, WARPS: tl.constexpr):
    """What `_pairs` enumerates as an operand B, (WARPS, D/2, 8)."""
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
def _turn(real, imag, cos, sin):
    """conj(z e^{iθ}) for z = conj(q) μ, stored as (real, imag) with q · R μ = real there."""
    return real * cos + imag * sin, imag * cos - real * sin


@triton.jit
def _phases(mean, tile, last, WARPS: tl.constexpr, D: tl.constexpr, F: tl.constexpr):
    """z = conj(q) μ of each RoPE pair, turned to the middle of every warp's page, fp32.

    mean: table, cos, sin; pointers to the left halves of q, which of them are, and of μ; scaling.
    """
    _, cos, sin, query, there, mean_left, scaling = mean
    warp, _, pair = _pairs(D // 32, WARPS)
    left = tl.load(query, there, 0.0).to(tl.float32) * scaling
    right = tl.load(query + D // 2, there, 0.0).to(tl.float32) * scaling
    mean_right = tl.load(mean_left + D // 2)
    mean_left = tl.load(mean_left)
    page = tl.minimum(tile * WARPS + warp, last)
    offset = ((page * (16 * F) + 8 * F) * D)[:, None] + pair
    real = left * mean_left + right * mean_right
    imag = right * mean_left - left * mean_right
    return _turn(real, imag, tl.load(cos + offset), tl.load(sin + offset))


@triton.jit
def _add_mean(scores, table, real, imag, tile, WARPS: tl.constexpr, D: tl.constexpr, F: tl.constexpr):
    """Scores (WARPS, 16, 8) of every field plus what tokens add to q · R(j) μ of the page's middle.

    real, imag: of `_phases`, operands B. table: cos θn - 1 and sin θn, n from the middle of a page.
    """
    steps: tl.constexpr = D // 32
    table += tl.minimum(tile, 0) * 8  # 0, but keeps the table from being held in registers
    added = ()
    for field in tl.static_range(F):
        score = tl.dot(_part(table + field * (16 * D), steps, WARPS), real, scores[field])
        score = tl.dot(_part(table + field * (16 * D) + 8 * D, steps, WARPS), imag, score)
        added = added + (score,)
    return added


@triton.jit
def _valid(token, first, length):
    """Whether tokens are stored, and no padding. first: None without padding."""
    there = token < length
    if first is not None:
        there = there & (token >= first)
    return there


@triton.jit
def _scales(scales, tile, first, length, WARPS: tl.constexpr, F: tl.constexpr):
    """Scales of the tokens of a page for each warp, F times (WARPS, 16), fp16; 0 if not valid."""
    token = (tile * WARPS + tl.arange(0, WARPS))[:, None] * (16 * F) + tl.arange(0, 16)[None, :]
    loaded = ()
    for s in tl.static_range(F):
        there = _valid(token + 16 * s, first, length)
        loaded = loaded + (tl.load(scales + token + 16 * s, there, 0.0),)
    return loaded


@triton.jit
def _tile(
    state, keys, values, key_scales, value_scales, queries, query_sums, mean,
    tile, first, length, last_key, last_value,
    WARPS: tl.constexpr, D: tl.constexpr, PER: tl.constexpr, KEYS: tl.constexpr,
    VALUES: tl.constexpr, CENTRED: tl.constexpr,
):  # fmt: skip
    """The state after W more pages: key words and scales of a tile, output, maximum, sums, surplus.

    The next tile's keys fly while this one's values are weighed.
    """
    key_words, key_scale, output, maximum, sums, surplus, real, imag = state
    F: tl.constexpr = PER[0]
    value_scale = _scales(value_scales, tile, first, length, WARPS, F)
    token = (tile * WARPS + tl.arange(0, WARPS))[:, None] * (16 * F) + tl.arange(0, 16)[None, :]
    if CENTRED:
        turned_real = _operand(real, D // 32, WARPS)
        turned_imag = _operand(imag, D // 32, WARPS).to(tl.float16)
        base = tl.sum(turned_real, 1)[:, None, :]
        turned_real = turned_real.to(tl.float16)
        _, _, pair = _pairs(D // 32, WARPS)
        pair += WARPS * 16 * F * D + tl.minimum(tile, 0) * 4  # 0, as for the table
        real, imag = _turn(real, imag, tl.load(mean[1] + pair), tl.load(mean[2] + pair))
    scores = ()
    for s in tl.static_range(F):
        score = tl.dot(_field(key_words, s, KEYS), queries)
        if KEYS.raw:
            score = score * (KEYS.step[s] * 2.0**24) - query_sums[None, None, :]
        scale = key_scale[s].to(tl.float32)
        if KEYS.gain != 1.0:
            scale = scale * KEYS.gain
        score = score * scale[:, :, None]
        if CENTRED:
            score = score + base
        there = _valid(token + 16 * s, first, length)
        scores = scores + (tl.where(there[:, :, None], score, EMPTY),)
    if CENTRED:
        scores = _add_mean(scores, mean[0], turned_real, turned_imag, tile, WARPS, D, F)
    if PER[0] == PER[1]:
        value_words = _value_words(values, tile, 0, last_value, WARPS, D, PER)
    key_words = _key_words(keys, tile + 1, last_key, WARPS, D)
    key_scale = _scales(key_scales, tile + 1, first, length, WARPS, F)
    highest = scores[0]
    for s in tl.static_range(1, F):
        highest = tl.maximum(highest, scores[s])
    highest = tl.maximum(maximum, tl.max(highest, 1))
    fade = tl.exp2(maximum - highest)
    reference = highest - VALUES.room
    output = output * fade[:, None, :]
    sums = sums * fade[:, None, :]
    surplus = surplus * fade[:, None, :]
    for s in tl.static_range(F):
        weights = tl.exp2(scores[s] - reference[:, None, :])
        sums += weights
        if PER[0] == PER[1]:
            levels = _field(value_words, s, VALUES)
        else:
            block = (tile * WARPS + tl.arange(0, WARPS)) * F + s
            bit = VALUES.bit[0] + block % PER[1] * VALUES.bits
            words = _value_words(values, tile, s, last_value, WARPS, D, PER).to(tl.int32)
            code = (words >> bit[:, None, None]) & ((1 << VALUES.bits) - 1)
            levels = _level(code, 1, VALUES)
        scale = value_scale[s].to(tl.float32)
        if VALUES.raw:
            step = VALUES.step[s] if PER[0] == PER[1] else 2.0**-VALUES.bits
            weights = weights * (scale * step)[:, :, None]
            surplus += weights * (1.0 / step)
        else:
            weights = weights * scale[:, :, None]
        output = tl.dot(levels, weights.to(tl.float16), output)
    return key_words, key_scale, output, highest, sums, surplus, real, imag


@triton.jit(do_not_specialize=["key_pages", "value_pages", "groups", "kv_heads"])
def decode_split(
    query_states, keys, key_scales, values, value_scales, lengths, firsts,
    key_matrix, value_matrix, key_mean, table, cos, sin,
    outputs, sums_out, scaling, key_pages, value_pages, groups, kv_heads,
    WARPS: tl.constexpr, D: tl.constexpr,
    PER: tl.constexpr, KEYS: tl.constexpr, VALUES: tl.constexpr, CENTRED: tl.constexpr,
    PADDED: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Attention of one KV head's queries over one run of pages; grid (B · H_kv, splits).

    outputs (B · H_kv, splits, 8, D), un-rotated; sums_out (B · H_kv, splits, 8), log-sum-exp; fp32.
    """
    F: tl.constexpr = PER[0]
    head = tl.program_id(0).to(tl.int64)
    split = tl.program_id(1)
    splits = tl.num_programs(1)
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
    length = tl.load(lengths)
    first = None
    begin = 0
    if PADDED:
        first = tl.load(firsts + head // kv_heads)
        begin = first // (16 * F * WARPS)
    end = tl.cdiv(length, 16 * F * WARPS)
    run = tl.cdiv(tl.maximum(end - begin, 0), splits)
    begin = begin + split * run
    end = tl.minimum(begin + run, end)
    keys += head * key_pages * (16 * D)
    values += head * value_pages * (16 * D)
    key_scales += head * key_pages * (16 * PER[0])
    value_scales += head * value_pages * (16 * PER[1])

    last_key = key_pages - 1
    last_value = value_pages - 1
    # The first words fly while the queries are rotated.
    key_words = _key_words(keys, begin, last_key, WARPS, D)
    key_scale = _scales(key_scales, begin, first, length, WARPS, F)

    column = tl.arange(0, QUERIES)
    channel = tl.arange(0, D)
    rows = query_states + (head * groups + column)[None, :] * D
    query = tl.load(rows + channel[:, None], (column < groups)[None, :], 0.0).to(tl.float32)
    rotated = _rotated(query, key_matrix, _key_channel(channel), D) * (scaling * KEYS.peak)
    rotated = rotated.to(tl.float16)
    query_sums = tl.sum(rotated.to(tl.float32), 0) * (1.0 - 0.5**KEYS.bits)
    queries = tl.broadcast_to(rotated[None, :, :], (WARPS, D, QUERIES))
    real = 0.0
    imag = 0.0
    mean = ()
    if CENTRED:
        _, query_index, pair = _pairs(D // 32, WARPS)
        row = query_states + ((head * groups + query_index) * D)[:, None] + pair
        there = (query_index < groups)[:, None]
        mean = (table, cos, sin, row, there, key_mean + head * D + pair, scaling)
        real, imag = _phases(mean, begin, last_key, WARPS, D, F)

    state = (
        key_words,
        key_scale,
        tl.zeros((WARPS, D, QUERIES), tl.float32),
        tl.full((WARPS, QUERIES), LOWEST, tl.float32),
        tl.zeros((WARPS, 16, QUERIES), tl.float32),
        tl.zeros((WARPS, 16, QUERIES), tl.float32),
        real,
        imag,
    )
    for tile in range(begin, end):
        state = _tile(
            state, keys, values, key_scales, value_scales, queries, query_sums, mean,
            tile, first, length, last_key, last_value,
            WARPS, D, PER, KEYS, VALUES, CENTRED,
        )  # fmt: skip

    output, maximum, sums, surplus = state[2], state[3], state[4], state[5]
    if VALUES.raw:
        surplus = tl.sum(surplus, 1)[:, None, :] * (1.0 - 0.5**VALUES.bits)
        output = output * 2.0**24 - surplus
    highest = tl.max(maximum, 0)
    weight = tl.exp2(maximum - highest[None, :])
    total = tl.sum(tl.sum(sums, 1) * weight, 0)
    some = total > 0
    total = tl.where(some, total, 1.0)
    output = tl.sum(output * weight[:, None, :], 0) * (VALUES.gain * VALUES.peak / total)[None, :]
    inverse = tl.load(
        value_matrix + _value_channel(channel)[:, None] * D + tl.arange(0, D)[None, :]
    )
    output = _exact_dot(tl.trans(inverse), output)
    place = head * splits + split
    tl.store(outputs + (place * QUERIES + column)[None, :] * D + channel[:, None], output)
    log_sum = tl.where(some, highest + tl.log2(total), EMPTY)
    tl.store(sums_out + place * QUERIES + column, log_sum)


@triton.jit(do_not_specialize=["splits", "groups"])
def decode_combine(
    outputs, sums, value_mean, attended, splits, groups,
    D: tl.constexpr, BLOCK: tl.constexpr, CENTRED: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """Weigh the splits of one query head together; grid (B · H_q,). BLOCK: at least the splits."""
    query = tl.program_id(0).to(tl.int64)
    head = query // groups
    channel = tl.arange(0, D)
    split = tl.arange(0, BLOCK)
    if PDL:
        tl.extra.cuda.gdc_wait()
    place = (head * splits + split) * 8 + query % groups
    log_sum = tl.load(sums + place, split < splits, -1e30)
    weight = tl.exp2(log_sum - tl.max(log_sum, 0))
    weight = tl.where(split < splits, weight, 0.0)
    part = tl.load(outputs + place[:, None] * D + channel[None, :], (split < splits)[:, None], 0.0)
    output = tl.sum(part * weight[:, None], 0) / tl.sum(weight, 0)
    if CENTRED:
        output += tl.load(value_mean + head * D + channel)
    tl.store(attended + query * D + channel, output.to(attended.dtype.element_ty))
