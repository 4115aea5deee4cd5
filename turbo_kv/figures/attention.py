"""One head's attention over the last tokens as pictures, a pixel a weight: PNG bytes.

Knows only arrays of probabilities. Exact and packed share a colour scale whose power norm lets
small weights show. The difference is centred at zero and cut at the 99.5th percentile of its size.
Tokens still to come are transparent.
"""

import struct
import zlib
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Normalize, PowerNorm

from turbo_kv.figures.style import LEVELS, SEQUENTIAL, SIGNED

GAMMA = 0.35
PERCENTILE = 99.5


class Scales(NamedTuple):
    """The ends of the colour bars: largest probability, and largest size of a difference."""

    probability: float
    difference: float


def scales(exact: np.ndarray, packed: np.ndarray) -> Scales:
    """The shared ends for two maps, `(queries, keys)`."""
    change = np.abs(packed - exact)[visible(exact.shape)]
    return Scales(
        probability=float(max(exact.max(), packed.max())),
        difference=max(float(np.percentile(change, PERCENTILE)), 1e-6),
    )


def visible(shape: tuple[int, int]) -> np.ndarray:
    """True where a query may look: the last query sees every key, each earlier one fewer."""
    queries, keys = shape
    return np.tri(queries, keys, keys - queries, dtype=bool)


def probability(attention: np.ndarray, ends: Scales) -> bytes:
    """Attention weights `(queries, keys)`, dark for none."""
    return _png(attention, SEQUENTIAL, probability_norm(ends))


def difference(change: np.ndarray, ends: Scales) -> bytes:
    """Packed minus exact weights `(queries, keys)`: brown where packed looks less, violet more."""
    return _png(change, SIGNED, Normalize(-ends.difference, ends.difference, clip=True))


def probability_norm(ends: Scales) -> PowerNorm:
    """From a weight to its place on the colour bar, 0 to 1; `inverse` leads back."""
    return PowerNorm(GAMMA, vmin=0, vmax=ends.probability)


def _png(values: np.ndarray, cmap: str, norm: Normalize) -> bytes:
    """A picture of one byte a pixel, with the colours in its palette: a third of RGBA's size."""
    levels = np.clip(norm(values) * LEVELS, 0, LEVELS - 1).astype(np.uint8)
    levels[~visible(values.shape)] = LEVELS  # the one transparent colour
    colours = colormaps[cmap].resampled(LEVELS)(np.arange(LEVELS), bytes=True)[:, :3]
    rows = np.pad(levels, ((0, 0), (1, 0)))  # before each row, that it is stored as it is
    height, width = values.shape
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0),
        b"PLTE": colours.tobytes() + bytes(3),
        b"tRNS": b"\xff" * LEVELS + b"\0",
        b"IDAT": zlib.compress(rows.tobytes(), 1),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks.items()
    )
