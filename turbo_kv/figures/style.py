"""Colours and sizes that the page's figures and grids share.

Knows nothing of what is drawn. Sequential: cividis, bright where the packed cache is faithful.
Signed: PuOr around zero. Parts of a stack: Okabe and Ito's palette. All three hold for
colour-blind readers.
"""

from functools import cache

from matplotlib import colormaps
from matplotlib.colors import to_hex, to_rgb

SEQUENTIAL = "cividis"
SIGNED = "PuOr"
LEVELS = 64

PARTS = {
    "codes": "#0072B2",
    "scales": "#E69F00",
    "signs": "#009E73",
    "residual_norms": "#56B4E9",
    "means": "#CC79A7",
    "open_page": "#F0E442",
    "exact_window": "#D55E00",
}
BEFORE = "#64748b"


@cache
def palette(cmap: str = SEQUENTIAL, levels: int = LEVELS) -> tuple[str, ...]:
    """Evenly spaced colours of a map, low to high."""
    return tuple(to_hex(colormaps[cmap](step / (levels - 1))) for step in range(levels))


def readable_on(fill: str) -> str:
    """Black or white, whichever contrasts more with `fill`; one of them always passes 4.5:1."""
    light = luminance(fill)
    return "#000000" if (light + 0.05) / 0.05 > 1.05 / (light + 0.05) else "#ffffff"


def luminance(colour: str) -> float:
    """Relative luminance, 0 to 1, as WCAG defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
