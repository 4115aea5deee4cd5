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
def mix_tokens(x):
    """Rows of 16 channels (D/16, 16 tokens, 16), fp32, times H_16.

    They go as their upper ten bits of mantissa, then the rest, which both are tf32 numbers.
    """
    rows: tl.constexpr = x.shape[0] * 16
    flat = x.reshape(rows, 16)
    upper = (flat.to(tl.int32, bitcast=True) & ~0x1FFF).to(tl.float32, bitcast=True)
    matrix = hadamard()
    mixed = tl.dot(upper, matrix, input_precision="tf32")
    mixed = tl.dot(flat - upper, matrix, mixed, input_precision="tf32")
    return mixed.reshape(rows // 16, 16, 16)


@triton.jit
def mix_channels(matrix, x, added):
    """A matrix (D/16, 16, 16) of powers of two times columns of 16 channels, and what is `added`.

    As exact as `mix_tokens`; numbers of 16 bits need no second product.
    """
    if x.dtype == tl.float32:
        upper = (x.to(tl.int32, bitcast=True) & ~0x1FFF).to(tl.float32, bitcast=True)
        mixed = tl.dot(matrix, upper, added, input_precision="tf32")
        mixed = tl.dot(matrix, x - upper, mixed, input_precision="tf32")
    elif x.dtype == tl.bfloat16 and not INTERPRETED:
        mixed = tl.dot(matrix.to(tl.bfloat16), x, added)
    else:
        mixed = tl.dot(matrix, x.to(tl.float32), added, input_precision="tf32")
    return mixed


@triton.jit
def mixed_mean(matrix, mean):
    """The matrix times a mean (N, 1, 16), for every token alike: (N, 16, 16)."""
    shape: tl.constexpr = matrix.shape
    columns = tl.broadcast_to(mean, shape).permute(0, 2, 1)
    mixed = mix_channels(matrix, columns, tl.zeros(shape, tl.float32))
    return tl.broadcast_to(tl.max(mixed, 2)[:, :, None], shape)  # columns are alike


@triton.jit
def mix_groups(x):
    """The Walsh-Hadamard transform over groups (N, 16, 16), unnormalized: a tuple of (16, 16)."""
    count: tl.constexpr = x.shape[0]
    groups = (x,)
    for level in tl.static_range(3):
        if 2**level < count:
            parts = ()
            for n in tl.static_range(2**level):
                wide = groups[n].reshape(2, count >> level + 1, 16, 16)
                left, right = tl.split(wide.permute(1, 2, 3, 0))
                parts = parts + (left + right, left - right)
            groups = parts
    mixed = ()
    for n in tl.static_range(count):
        mixed = mixed + (groups[n].reshape(16, 16),)
    return mixed


@triton.jit
def hadamard():
    """H_16, of ±RAISED: entry (i, j) is negative where i & j has an odd number of ones."""
    common = tl.arange(0, 16)[:, None] & tl.arange(0, 16)[None, :]
    common ^= common >> 2
    common ^= common >> 1
    return tl.where((common & 1) == 0, RAISED, -RAISED)


@triton.jit
def by_token(x, TOKENS: tl.constexpr):
    """One number per token (16,), beside operands (16, 16)."""
    return x[:, None] if TOKENS == 0 else x[None, :]


@triton.jit
def over_channels(x, TOKENS: tl.constexpr):
    """Sums (16,) over the channels of an operand (16, 16)."""
    return tl.sum(x, 1 - TOKENS)


@triton.jit
def words_of(codes):
    """Words of four nibbles, two to an int32, (8, 4), of an operand (16, 16)."""
    codes = codes.reshape(2, 8, 2, 4, 2).permute(1, 3, 4, 2, 0)
    low, high = tl.split(codes)
    low, high = tl.split(low + (high << 16))
    low, high = tl.split(low + (high << 8))
    return low + (high << 4)


@triton.jit
def side_by_side(words):
    """The words (8, 4) of several operands, a power of two, lane by lane: (8, 4, N)."""
    for level in tl.static_range(4):
        pairs = ()
        for n in tl.static_range(len(words) // 2):
            both = tl.join(words[2 * n], words[2 * n + 1])
            if level > 0:
                both = both.permute(0, 1, 3, 2).reshape(8, 4, 2 ** (level + 1))
            pairs = pairs + (both,)
        if len(words) > 1:
            words = pairs
    return words[0]


@triton.jit
def as_stored(words):
    """Words (8, 4, D/16) as a plane lists them, (D/2, 4): a lane writes those of four operands."""
    chunks: tl.constexpr = words.shape[2] // 4
    return words.reshape(8, 4, chunks, 4).permute(2, 0, 1, 3).reshape(32 * chunks, 4)
