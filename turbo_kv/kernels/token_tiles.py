"""Tiles of 16 tokens in Triton, and their Walsh-Hadamard transform where lanes have loaded them.

H_D = H_(D/16) ⊗ H_16 takes the bits of a channel's number in any order. A lane keeps the octets of
channels that it loads: two bits of the lane and two of its registers are what H_16 mixes on the
matrix unit, the others number groups of 16 channels. Does not know what is transformed.
"""

import triton
import triton.language as tl

GROUP = tl.constexpr(16)  # channels that one product mixes


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
def mix_channels(x, matrix):
    """x times H_16: its upper bits, then the rest, which both are tf32 numbers."""
    upper = (x.to(tl.int32, bitcast=True) & ~0x1FFF).to(tl.float32, bitcast=True)
    mixed = tl.dot(upper, matrix, input_precision="tf32")
    return tl.dot(x - upper, matrix, mixed, input_precision="tf32")


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
def hadamard():
    """H_16, of ±1: entry (i, j) is -1 where i & j has an odd number of ones."""
    common = tl.arange(0, 16)[:, None] & tl.arange(0, 16)[None, :]
    common ^= common >> 2
    common ^= common >> 1
    return tl.where((common & 1) == 0, 1.0, -1.0)
