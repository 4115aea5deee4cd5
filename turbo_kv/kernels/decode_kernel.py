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

EMPTY = tl.constexpr(-1e30)  # the log-sum-exp of nothing
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
    """Codes as fp16 levels f(t), or as 1024 + 2^position (code + 1/2) if they are read raw.

    CODES: (bits, raw, coefficients of an odd polynomial, of a quadratic one); see levels.py.
    """
    step: tl.constexpr = 2.0 ** -(position + CODES[0] - 1)
    odd: tl.constexpr = CODES[2]
    x = (1024 + (2 * code + 1) * (1 << (position - 1))).to(tl.float16)
    if not CODES[1]:
        x = x * step - (1024 * step + 1)
        if len(CODES[3]):
            x = x * (tl.abs(x) + CODES[3][0])
        if len(odd):
            square = x * x
            y = tl.full(x.shape, odd[len(odd) - 1], tl.float16)
            for i in tl.static_range(len(odd) - 1):
                y = y * square + odd[len(odd) - 2 - i]
            x = x * y
    return x


@triton.jit
def _field(
    words,
    field: tl.constexpr,
    CODES: tl.constexpr,
    FIELDS: tl.constexpr,
    PTX: tl.constexpr,
):
    """Field `field` of words as fp16 levels. FIELDS: (bit, position) of each. PTX: of each, or ()."""
    if len(PTX):
        return tl.inline_asm_elementwise(
            PTX[field], "=r,r", [words], dtype=tl.float16, is_pure=True, pack=2
        )
    else:
        code = (words.to(tl.int32) >> FIELDS[field][0]) & ((1 << CODES[0]) - 1)
        return _level(code, FIELDS[field][1], CODES)


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
def _mean_terms(table, cos, sin, real, imag, tile, last, WARPS: tl.constexpr, D: tl.constexpr,
                F: tl.constexpr):
    """q · R(j) μ for the tokens of one page a warp: F tiles (WARPS, 16, 8), fp32.

    real, imag: z = conj(q) μ of each RoPE pair (D/2, 8). It is turned to the middle of the page
    in fp32; `table` (F, steps, lane, 8), in the order of operand A, holds cos θn - 1 and sin θn.
    """
    steps: tl.constexpr = D // 16
    index = tl.arange(0, D // 2)
    pair = (index & 3) * (D // 8) + index // 4
    page = tl.minimum(tile * WARPS + tl.arange(0, WARPS), last)
    offset = (page * (16 * F) + 8 * F)[:, None] * D + pair[None, :]
    c = tl.load(cos + offset)[:, :, None]
    s = tl.load(sin + offset)[:, :, None]
    turned_real = real[None, :, :] * c + imag[None, :, :] * s
    turned_imag = imag[None, :, :] * c - real[None, :, :] * s
    base = tl.sum(turned_real, 1)
    turned = tl.join(turned_real.to(tl.float16), turned_imag.to(tl.float16))
    turned = turned.permute(0, 1, 3, 2).reshape(WARPS, D, 8)
    lane = tl.arange(0, 32 * WARPS * steps)  # step, warp, lane
    offset = (lane // (32 * WARPS) * 32 + lane % 32) * 8
    terms = ()
    for field in tl.static_range(F):
        part = tl.load(table + field * (D * 16) + offset[:, None] + tl.arange(0, 8)[None, :])
        part = part.reshape(steps, WARPS, 8, 4, 2, 2, 2)
        part = part.permute(1, 5, 2, 0, 4, 3, 6).reshape(WARPS, 16, D)
        terms = terms + (tl.dot(part, turned) + base[:, None, :],)
    return terms


@triton.jit
def _tile(
    state, key_words, value_words, values, key_scales, value_scales, queries, query_sums, mean,
    tile, first, length, last_key, last_value,
    WARPS: tl.constexpr, D: tl.constexpr, PER: tl.constexpr, KEYS: tl.constexpr,
    VALUES: tl.constexpr, CENTRED: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """The state (output, maximum, sums) after W more pages."""
    output, maximum, sums = state
    F: tl.constexpr = PER[0]
    rows = ((tile * WARPS + tl.arange(0, WARPS)) * (16 * F))[:, None] + tl.arange(0, 16)[None, :]
    if CENTRED:
        table, cos, sin, real, imag = mean
        scores = _mean_terms(table, cos, sin, real, imag, tile, last_key, WARPS, D, F)
    new_scores = ()
    for s in tl.static_range(F):
        valid = (rows + 16 * s >= first) & (rows + 16 * s < length)
        if MASKED:
            scale = tl.load(key_scales + rows + 16 * s, valid, 0.0).to(tl.float32)
        else:
            scale = tl.load(key_scales + rows + 16 * s).to(tl.float32)
        score = tl.dot(_field(key_words, s, KEYS[0], KEYS[1], KEYS[2]), queries)
        if KEYS[0][1]:
            step = 2.0 ** -(KEYS[1][s][1] + KEYS[0][0] - 1)
            score = score * step - query_sums[None, None, :] * (1024 * step + 1)
        if KEYS[3] != 1.0:
            scale = scale * KEYS[3]
        score = score * scale[:, :, None]
        if CENTRED:
            score = score + scores[s]
        if MASKED:
            score = tl.where(valid[:, :, None], score, EMPTY)
        new_scores = new_scores + (score,)
    highest = new_scores[0]
    for s in tl.static_range(1, F):
        highest = tl.maximum(highest, new_scores[s])
    highest = tl.maximum(maximum, tl.max(highest, 1))
    fade = tl.exp2(maximum - highest)
    reference = highest - VALUES[3]
    sums = sums * fade[:, None, :]
    if VALUES[0][1]:
        part = tl.zeros((WARPS, D, QUERIES), tl.float32)
        surplus = tl.zeros((WARPS, 16, QUERIES), tl.float32)
    else:
        part = output * fade[:, None, :]
    for s in tl.static_range(F):
        valid = (rows + 16 * s >= first) & (rows + 16 * s < length)
        weights = tl.exp2(new_scores[s] - reference[:, None, :])
        if MASKED:
            weights = tl.where(valid[:, :, None], weights, 0.0)
            scale = tl.load(value_scales + rows + 16 * s, valid, 0.0).to(tl.float32)
        else:
            scale = tl.load(value_scales + rows + 16 * s).to(tl.float32)
        sums += weights
        if PER[0] == PER[1]:
            levels = _field(value_words, s, VALUES[0], VALUES[1], VALUES[2])
        else:
            block = (tile * WARPS + tl.arange(0, WARPS)) * F + s
            bit = VALUES[1][0][0] + block % PER[1] * VALUES[0][0]
            words = _value_words(values, tile, s, last_value, WARPS, D, PER).to(tl.int32)
            code = (words >> bit[:, None, None]) & ((1 << VALUES[0][0]) - 1)
            levels = _level(code, 1, VALUES[0])
        if VALUES[0][1]:
            position = VALUES[1][s][1] if PER[0] == PER[1] else 1
            step = 2.0 ** -(position + VALUES[0][0] - 1)
            weights = (weights * (scale * step)[:, :, None]).to(tl.float16)
            surplus += weights.to(tl.float32) * (1024 + 1 / step)
        else:
            weights = (weights * scale[:, :, None]).to(tl.float16)
        part = tl.dot(levels, weights, part)
    if VALUES[0][1]:
        part = output * fade[:, None, :] + (part - tl.sum(surplus, 1)[:, None, :])
    return part, highest, sums


@triton.jit
def decode_split(
    query_states, keys, key_scales, values, value_scales, lengths, firsts,
    key_matrix, value_matrix, key_mean, table, cos, sin,
    outputs, sums_out, scaling, key_pages, value_pages,
    G: tl.constexpr, KV_HEADS: tl.constexpr, WARPS: tl.constexpr, D: tl.constexpr,
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
    first = tl.load(firsts + head // KV_HEADS) if PADDED else 0
    begin = first // (16 * F * WARPS)
    end = tl.cdiv(length, 16 * F * WARPS)
    run = tl.cdiv(tl.maximum(end - begin, 0), splits)
    begin = begin + split * run
    end = tl.minimum(begin + run, end)
    keys += head * key_pages * (16 * D)
    values += head * value_pages * (16 * D)
    key_scales += head * key_pages * (16 * PER[0])
    value_scales += head * value_pages * (16 * PER[1])

    column = tl.arange(0, QUERIES)
    channel = tl.arange(0, D)
    rows = query_states + (head * G + column)[None, :] * D
    query = tl.load(rows + channel[:, None], (column < G)[None, :], 0.0).to(tl.float32)
    rotated = _rotated(query, key_matrix, _key_channel(channel), D) * (scaling * KEYS[4])
    rotated = rotated.to(tl.float16)
    query_sums = tl.sum(rotated.to(tl.float32), 0)
    queries = tl.broadcast_to(rotated[None, :, :], (WARPS, D, QUERIES))
    if CENTRED:
        index = tl.arange(0, D // 2)
        pair = ((index & 3) * (D // 8) + index // 4)[:, None]
        left = tl.load(rows + pair, (column < G)[None, :], 0.0).to(tl.float32) * scaling
        right = tl.load(rows + pair + D // 2, (column < G)[None, :], 0.0).to(tl.float32) * scaling
        mean_left = tl.load(key_mean + head * D + pair)
        mean_right = tl.load(key_mean + head * D + D // 2 + pair)
        real = left * mean_left + right * mean_right
        imag = right * mean_left - left * mean_right
        mean = (table, cos, sin, real, imag)
    else:
        mean = ()

    state = (
        tl.zeros((WARPS, D, QUERIES), tl.float32),
        tl.full((WARPS, QUERIES), EMPTY, tl.float32),
        tl.zeros((WARPS, 16, QUERIES), tl.float32),
    )
    last_key = key_pages - 1
    last_value = value_pages - 1
    whole = tl.maximum(tl.minimum(end, length // (16 * F * WARPS)), begin)
    start = begin
    if PADDED:
        start = tl.minimum(tl.maximum(begin, tl.cdiv(first, 16 * F * WARPS)), whole)
    peeled = start - begin
    for i in range(peeled + end - whole):
        tile = tl.where(i < peeled, begin + i, whole + i - peeled)
        key_words = _key_words(keys, tile, last_key, WARPS, D)
        value_words = key_words
        if PER[0] == PER[1]:
            value_words = _value_words(values, tile, 0, last_value, WARPS, D, PER)
        state = _tile(
            state, key_words, value_words, values, key_scales, value_scales, queries, query_sums,
            mean, tile, first, length, last_key, last_value,
            WARPS, D, PER, KEYS, VALUES, CENTRED, True,
        )  # fmt: skip
    for tile in range(start, whole):
        key_words = _key_words(keys, tile, last_key, WARPS, D)
        value_words = key_words
        if PER[0] == PER[1]:
            value_words = _value_words(values, tile, 0, last_value, WARPS, D, PER)
        state = _tile(
            state, key_words, value_words, values, key_scales, value_scales, queries, query_sums,
            mean, tile, first, length, last_key, last_value,
            WARPS, D, PER, KEYS, VALUES, CENTRED, False,
        )  # fmt: skip

    output, maximum, sums = state
    highest = tl.max(maximum, 0)
    weight = tl.exp2(maximum - highest[None, :])
    total = tl.sum(tl.sum(sums, 1) * weight, 0)
    some = total > 0
    total = tl.where(some, total, 1.0)
    output = tl.sum(output * weight[:, None, :], 0) * (VALUES[4] / total)[None, :]
    inverse = tl.load(
        value_matrix + _value_channel(channel)[:, None] * D + tl.arange(0, D)[None, :]
    )
    output = _exact_dot(tl.trans(inverse), output)
    place = head * splits + split
    tl.store(outputs + (place * QUERIES + column)[None, :] * D + channel[:, None], output)
    log_sum = tl.where(some, highest + tl.log2(total), EMPTY)
    tl.store(sums_out + place * QUERIES + column, log_sum)


@triton.jit
def decode_combine(
    outputs, sums, value_mean, attended, splits,
    G: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr, CENTRED: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """Weigh the splits of one query head together; grid (B · H_q,). BLOCK: at least the splits."""
    query = tl.program_id(0).to(tl.int64)
    head = query // G
    channel = tl.arange(0, D)
    split = tl.arange(0, BLOCK)
    if PDL:
        tl.extra.cuda.gdc_wait()
    place = (head * splits + split) * 8 + query % G
    log_sum = tl.load(sums + place, split < splits, -1e30)
    weight = tl.exp2(log_sum - tl.max(log_sum, 0))
    weight = tl.where(split < splits, weight, 0.0)
    part = tl.load(outputs + place[:, None] * D + channel[None, :], (split < splits)[:, None], 0.0)
    output = tl.sum(part * weight[:, None], 0) / tl.sum(weight, 0)
    if CENTRED:
        output += tl.load(value_mean + head * D + channel)
    tl.store(attended + query * D + channel, output.to(attended.dtype.element_ty))
