"""Words and scales of packed pages as operands of the matrix unit, in Triton.

Words go from memory straight into the registers in which the matrix unit wants them: a lane loads
16 bytes, and `key_channel` and `value_channel` say which channel lands where. Who multiplies
permutes the other operand to match. Does not know attention.
"""

import triton
import triton.language as tl


@triton.jit
def key_channel(k):
    """The channel at position k of the keys' inner dimension."""
    return (k & ~31) + ((k >> 1) & 3) * 8 + ((k >> 4) & 1) * 4 + ((k >> 3) & 1) * 2 + (k & 1)


@triton.jit
def value_channel(m):
    """The channel at position m of the values' outer dimension."""
    return (m & ~63) + (m & 7) * 8 + ((m >> 4) & 3) * 2 + ((m >> 3) & 1)


@triton.jit
def key_words_of(words, tile, last, WARPS: tl.constexpr, D: tl.constexpr):
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
def value_words_of(
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
def level_of(code, position: tl.constexpr, CODES: tl.constexpr):
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
def field_of(words, field: tl.constexpr, CODES: tl.constexpr):
    """Field `field` of words as `level_of` gives it."""
    if len(CODES.ptx):
        return tl.inline_asm_elementwise(
            CODES.ptx[field], "=r,r", [words], dtype=tl.float16, is_pure=True, pack=2
        )
    else:
        code = (words.to(tl.int32) >> CODES.bit[field]) & ((1 << CODES.bits) - 1)
        return level_of(code, CODES.position[field], CODES)


@triton.jit
def valid(token, first, length):
    """Whether tokens are stored, and no padding. first: None without padding."""
    there = token < length
    if first is not None:
        there = there & (token >= first)
    return there


@triton.jit
def scales_of(scales, tile, last, WARPS: tl.constexpr, F: tl.constexpr):
    """Scales of a page for each warp, at most page `last`: F times (WARPS, 16), fp16.

    Undefined where nothing is stored, so that loads need not wait for a length.
    """
    page = tl.minimum(tile * WARPS + tl.arange(0, WARPS), last)
    token = page[:, None] * (16 * F) + tl.arange(0, 16)[None, :]
    loaded = ()
    for s in tl.static_range(F):
        loaded = loaded + (tl.load(scales + token + 16 * s),)
    return loaded
