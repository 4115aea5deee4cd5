"""Tiles of 16 tokens in Triton, their Walsh-Hadamard transform and their words, without a detour.

H_D = H_(D/16) ⊗ H_16 takes the bits of a channel's number in any order. A lane keeps the octets of
channels that it loads: two bits of the lane and two of its registers are what H_16 mixes on the
matrix unit, the others number groups of 16 channels. What is mixed lies as the operands of
`pages.py` do, (D/16, 16, 16): rows are tokens and columns channels for keys, where TOKENS is 0, and
the other way round for values, where it is 1. Does not know what is transformed.
"""

import triton
import triton.language as tl

GROUP = tl.constexpr(16)  # channels that one product mixes
RAISED = tl.constexpr(2.0**40)  # what all numbers are multiplied by when mixed
INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)  # which multiplies no bf16


@triton.jit
def tile(first, CHUNKS: tl.constexpr, WIDTH: tl.constexpr):
    """Slots and channels of 16 tokens from slot `first` on, WIDTH neighbours to a row.

    Rows are, from slow to fast: the upper bit of a token, chunks of 32 channels, and what is left
    of a chunk's octets; then tokens and octets, the 32 lanes if a lane loads all or half an octet.
    """
    index = tl.arange(0, 512 * CHUNKS // WIDTH)[:, None]
    column = tl.arange(0, WIDTH)[None, :]
    if WIDTH == 32:
        slot = first + index % 8 + index // (8 * CHUNKS) * 8
        channel = index // 8 % CHUNKS * 32 + column
    else:
        slot = first + index // 4 % 8 + index // (64 * CHUNKS) * 8
        channel = index // 64 % CHUNKS * 32 + index % 4 * 8 + index // 32 % 2 * 4 + column
    return slot, channel


@triton.jit
def grouped(x, CHUNKS: tl.constexpr, WIDTH: tl.constexpr):
    """Groups of 16 channels, (2 · CHUNKS, 16 tokens, 16), of what `tile` lists.

    A lane keeps what it has loaded: it is what the matrix unit wants of it.
    """
    if WIDTH == 32:
        x = x.reshape(2, CHUNKS, 8, 4, 2, 2, 2).permute(1, 4, 0, 2, 5, 3, 6)
    else:
        x = x.reshape(2, CHUNKS, 2, 8, 4, 2, 2).permute(1, 2, 0, 3, 5, 4, 6)
    return x.reshape(2 * CHUNKS, 16, 16)


@triton.jit
def twice(x):
    """x below itself: both halves of RoPE turn alike."""
    count: tl.constexpr = x.shape[0]
    whole = tl.broadcast_to(x[None, :, :, :], (2, count, 16, 16))
    return whole.reshape(2 * count, 16, 16)


@triton.jit
def mix_channels(x, added, TOKENS: tl.constexpr):
    """Groups of 16 channels (D/16, 16 tokens, 16), each mixed by H_16, and `added` to it, fp32.

    Numbers of 16 bits are exact; fp32 goes as its upper ten bits of mantissa, then the rest, which
    both are tf32 numbers.
    """
    count: tl.constexpr = x.shape[0]
    if TOKENS == 0:
        x = x.reshape(count * 16, 16)
        added = added.reshape(count * 16, 16)
    else:
        x = x.permute(2, 0, 1).reshape(16, count * 16)
        added = added.permute(1, 0, 2).reshape(16, count * 16)
    if x.dtype == tl.float32:
        upper = (x.to(tl.int32, bitcast=True) & ~0x1FFF).to(tl.float32, bitcast=True)
        mixed = _product(upper, added, TOKENS)
        mixed = _product(x - upper, mixed, TOKENS)
    elif x.dtype == tl.bfloat16 and not INTERPRETED:
        mixed = _product(x, added, TOKENS)
    else:
        mixed = _product(x.to(tl.float32), added, TOKENS)
    if TOKENS == 0:
        mixed = mixed.reshape(count, 16, 16)
    else:
        mixed = mixed.reshape(16, count, 16).permute(1, 0, 2)
    return mixed


@triton.jit
def _product(x, added, TOKENS: tl.constexpr):
    """x H_16 for rows of tokens, H_16 x for columns, and `added`."""
    matrix = _hadamard().to(x.dtype)
    first, second = (x, matrix) if TOKENS == 0 else (matrix, x)
    return tl.dot(first, second, added, input_precision="tf32")


@triton.jit
def _hadamard():
    """H_16, of ±RAISED: entry (i, j) is negative where i & j has an odd number of ones."""
    common = tl.arange(0, 16)[:, None] & tl.arange(0, 16)[None, :]
    common ^= common >> 2
    common ^= common >> 1
    return tl.where((common & 1) == 0, RAISED, -RAISED)


@triton.jit
def mix_groups(y, GROUPS: tl.constexpr):
    """The Walsh-Hadamard transform over the groups (GROUPS, 16, 16), unnormalized."""
    for level in tl.static_range(3):
        if 2**level < GROUPS:
            y = y.reshape(GROUPS // 2 ** (level + 1), 2, 2**level, 16, 16).permute(0, 2, 3, 4, 1)
            left, right = tl.split(y)
            y = tl.join(left + right, left - right).permute(0, 4, 1, 2, 3)
            y = y.reshape(GROUPS, 16, 16)
    return y


@triton.jit
def by_token(x, TOKENS: tl.constexpr):
    """One number per token (16,), beside operands (D/16, 16, 16)."""
    return x[None, :, None] if TOKENS == 0 else x[None, None, :]


@triton.jit
def over_channels(x, TOKENS: tl.constexpr):
    """Sums (16,) over the channels of operands (D/16, 16, 16)."""
    return tl.sum(tl.sum(x, 0), 1 - TOKENS)


@triton.jit
def words_of(codes):
    """Words of four nibbles, two to an int32, (N, 8, 4), of operands (N, 16, 16)."""
    count: tl.constexpr = codes.shape[0]
    codes = codes.reshape(count, 2, 8, 2, 4, 2).permute(0, 2, 4, 5, 3, 1)
    low, high = tl.split(codes)
    low, high = tl.split(low + (high << 16))
    low, high = tl.split(low + (high << 8))
    return low + (high << 4)


@triton.jit
def as_stored(words):
    """Words (D/16, 8, 4) as a plane lists them, (D/2, 4): a lane writes those of four operands."""
    chunks: tl.constexpr = words.shape[0] // 4
    return words.reshape(chunks, 4, 8, 4).permute(0, 2, 3, 1).reshape(32 * chunks, 4)
