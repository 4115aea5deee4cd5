"""Words and scales of packed pages as operands of the matrix unit, in Triton.

Words go from memory straight into the registers in which the matrix unit wants them (pages.py), and
a few instructions make the eight levels of two words. Who multiplies permutes the other operand to
the order of `channel_at`. Does not know attention.
"""

import triton
import triton.language as tl

from turbo_kv.kernels import pages as layout

PAGE = tl.constexpr(layout.PAGE)


@triton.jit
def channel_at(position):
    """The channel at a position of the operands, as `pages.channel_order`."""
    octet = (position >> 1) & 3
    pair = ((position >> 4) & 1) * 4 + ((position >> 3) & 1) * 2 + (position & 1)
    return (position & ~31) + octet * 8 + pair


@triton.jit
def words_of(words, tile, last, WARPS: tl.constexpr, D: tl.constexpr, CODES: tl.constexpr):
    """Words of pages tile·WARPS onwards, at most `last`: for each plane, int16
    (D / 64, WARPS, 8, 4, 4, 2) by lane (g, t), operand and h."""
    chunks: tl.constexpr = D // 64
    planes: tl.constexpr = CODES.bits
    index = tl.arange(0, 32 * WARPS * chunks)  # chunk, warp, lane
    page = tl.minimum(tile * WARPS + index // 32 % WARPS, last)
    offset = page * (planes * 4 * D) + index // (32 * WARPS) * 256 + index % 32 * 8
    offset = offset[:, None] + tl.arange(0, 8)[None, :]
    loaded = ()
    for plane in tl.static_range(planes):
        part = tl.load(words + offset + plane * (4 * D))
        loaded = loaded + (part.reshape(chunks, WARPS, 8, 4, 4, 2),)
    return loaded


@triton.jit
def key_field(
    words, field: tl.constexpr, tables, WARPS: tl.constexpr, D: tl.constexpr, CODES: tl.constexpr
):
    """Levels of a field of key words, fp16 (WARPS, 16 tokens, D)."""
    levels = _levels(words, field, tables, CODES).permute(1, 6, 2, 0, 4, 7, 3, 5)
    return levels.reshape(WARPS, 16, D)


@triton.jit
def value_field(
    words, field: tl.constexpr, tables, WARPS: tl.constexpr, D: tl.constexpr, CODES: tl.constexpr
):
    """Levels of a field of value words, fp16 (WARPS, D, 16 tokens)."""
    levels = _levels(words, field, tables, CODES).permute(1, 0, 4, 6, 2, 7, 3, 5)
    return levels.reshape(WARPS, D, 16)


@triton.jit
def _levels(words, field: tl.constexpr, tables, CODES: tl.constexpr):
    """fp16 (D / 64, WARPS, g, t, operand, column % 2, row / 8, column / 8)."""
    if len(CODES.ptx):
        if CODES.bits == 3 and field == 3:
            taken = (words[0], words[1], words[2])
        else:
            taken = (words[CODES.plane[field]],)
        top, low, top_right, low_right = tl.inline_asm_elementwise(
            CODES.ptx[field],
            "=r,=r,=r,=r" + ",r" * (len(taken) + 2 * len(tables)),
            taken + tables,
            dtype=(tl.float16, tl.float16, tl.float16, tl.float16),
            is_pure=True,
            pack=2,
        )
    else:
        nibbles = _nibbles(words, field, CODES)
        above, below = tl.split(nibbles)
        top, top_right = _columns(above, CODES)
        low, low_right = _columns(below, CODES)
    levels = tl.join(tl.join(top, low), tl.join(top_right, low_right))
    if len(CODES.ptx):  # nothing; but Triton, seeing a join, would spread operands over more lanes
        levels = tl.inline_asm_elementwise(
            "mov.b16 $0, $1;", "=h,h", [levels], dtype=tl.float16, is_pure=False, pack=1
        )
    return levels


@triton.jit
def _nibbles(words, field: tl.constexpr, CODES: tl.constexpr):
    """Words with the codes of a field in their nibbles, int32."""
    if CODES.bits == 3 and field == 3:
        spare = (words[0].to(tl.int32) >> 3) & 0x1111
        spare |= (words[1].to(tl.int32) >> 2) & 0x2222
        return spare | ((words[2].to(tl.int32) >> 1) & 0x4444)
    return (words[CODES.plane[field]].to(tl.int32) >> CODES.shift[field]) & CODES.mask


@triton.jit
def _columns(nibbles, CODES: tl.constexpr):
    """Levels of the left and of the right two nibbles of words, each with a new last dimension."""
    left = tl.join(_level(nibbles & 15, CODES), _level((nibbles >> 4) & 15, CODES))
    right = tl.join(_level((nibbles >> 8) & 15, CODES), _level((nibbles >> 12) & 15, CODES))
    return left, right


@triton.jit
def _level(code, CODES: tl.constexpr):
    """The level of each code, fp16."""
    count: tl.constexpr = len(CODES.levels)
    level = tl.full(code.shape, CODES.levels[0], tl.float16)
    for n in tl.static_range(1, count):
        level = tl.where(code == n, CODES.levels[n], level).to(tl.float16)
    return level


@triton.jit
def transposed(weights, WARPS: tl.constexpr, INLINE: tl.constexpr):
    """Weights (WARPS, 16 tokens, 8 queries), fp16, as the matrix unit wants its other operand."""
    if INLINE:  # lane (g, t) gives up row g and gets column g, in both halves of the tokens
        halves = tl.inline_asm_elementwise(
            "movmatrix.sync.aligned.m8n8.trans.b16 $0, $1;",
            "=r,r",
            [weights.reshape(WARPS, 2, 8, 8)],
            dtype=tl.float16,
            is_pure=True,
            pack=2,
        )
        weights = halves.permute(0, 1, 3, 2).reshape(WARPS, 16, 8)
    return weights


@triton.jit
def valid(token, first, length):
    """Whether tokens are stored, and no padding. first: None without padding."""
    there = token < length
    if first is not None:
        there = there & (token >= first)
    return there


@triton.jit
def scales_of(scales, tile, last, WARPS: tl.constexpr):
    """Scales of a page for each warp, at most page `last`: fp16 (WARPS, 8, 4, 4 fields, 2 halves).

    By lane, as scores lie. Undefined where nothing is stored, so that loads wait for no length.
    """
    lane = tl.arange(0, 32 * WARPS)
    page = tl.minimum(tile * WARPS + lane // 32, last)
    offset = page * PAGE + lane % 32 // 4 * 8
    loaded = tl.load(scales + offset[:, None] + tl.arange(0, 8)[None, :])
    return loaded.reshape(WARPS, 8, 4, 4, 2)


@triton.jit
def by_field(scales, WARPS: tl.constexpr):
    """`scales_of` as a tuple of four (WARPS, 16, 8), fp32, alike for all queries."""
    pairs = scales.to(tl.float32).reshape(WARPS, 8, 4, 2, 2, 2).permute(0, 1, 2, 5, 4, 3)
    low, high = tl.split(pairs)  # fields 0 and 1, 2 and 3
    first, second = tl.split(low)
    third, fourth = tl.split(high)
    return (
        _for_queries(first, WARPS),
        _for_queries(second, WARPS),
        _for_queries(third, WARPS),
        _for_queries(fourth, WARPS),
    )


@triton.jit
def _for_queries(scale, WARPS: tl.constexpr):
    """(WARPS, 8, 4, 2 halves) as (WARPS, 16, 8)."""
    scale = tl.broadcast_to(scale.permute(0, 3, 1, 2)[:, :, :, :, None], (WARPS, 2, 8, 4, 2))
    return scale.reshape(WARPS, 16, 8)


@triton.jit
def tables_of(tables, WARPS: tl.constexpr, CODES: tl.constexpr):
    """The words of a codebook's tables, of which every lane reads its own copy (·, 32)."""
    count: tl.constexpr = len(CODES.tables)
    lane = (tl.arange(0, 32 * WARPS) % 32).reshape(1, WARPS, 8, 4, 1, 1)
    loaded = ()
    for n in tl.static_range(count):
        loaded = loaded + (tl.load(tables + 32 * n + lane),)
    return loaded


@triton.jit
def prefetch(words, tile, last, WARPS: tl.constexpr, D: tl.constexpr, CODES: tl.constexpr):
    """Have the words of pages tile·WARPS onwards, at most `last`, brought into the L2 cache."""
    lane = tl.arange(0, 32 * WARPS)
    page = tl.minimum(tile * WARPS + lane // 32, last)
    line = tl.minimum(lane % 32, CODES.bits * D // 16 - 1)  # of 128 bytes
    tl.inline_asm_elementwise(
        "prefetch.global.L2 [$1]; mov.u32 $0, 0;",
        "=r,l",
        [(words + page * (CODES.bits * 4 * D) + line * 64).to(tl.int64)],
        dtype=tl.int32,
        is_pure=False,
        pack=1,
    )
