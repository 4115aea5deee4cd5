"""One head's attention over the last tokens: exact, packed, and their difference.

Knows only arrays of probabilities. Exact and packed share a colour scale; the power norm lets
small weights show. The difference is centred at zero, its range the 99.5th percentile of its size.
"""

from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure

from turbo_kv.figures.style import CARD, INK, SEQUENTIAL, SIGNED

WIDTH, HEIGHT = 4.2, 4.8  # inches
DPI = 110
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


def probability(title: str, attention: np.ndarray, ends: Scales, first_key: int) -> Figure:
    """Attention weights `(queries, keys)`; `first_key` is the position of the first column."""
    norm = PowerNorm(GAMMA, vmin=0, vmax=ends.probability)
    return _panel(title, attention, first_key, cmap=SEQUENTIAL, norm=norm, label="attention weight")


def difference(title: str, change: np.ndarray, ends: Scales, first_key: int) -> Figure:
    """Packed minus exact weights `(queries, keys)`."""
    norm = Normalize(-ends.difference, ends.difference)
    label = f"packed − exact, cut at ±{ends.difference:.2g}"
    return _panel(title, change, first_key, cmap=SIGNED, norm=norm, label=label)


def pixels(figure: Figure) -> np.ndarray:
    """The drawn figure as RGB, uint8 `(height, width, 3)`."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _panel(
    title: str, values: np.ndarray, first_key: int, *, cmap: str, norm: Normalize, label: str
) -> Figure:
    queries, keys = values.shape
    last = first_key + keys
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, facecolor=CARD)
    axes = figure.add_axes((0.17, 0.27, 0.79, 0.66), facecolor="white")
    image = axes.imshow(
        np.where(visible(values.shape), values, np.nan),
        cmap=cmap,
        norm=norm,
        extent=(first_key - 0.5, last - 0.5, last - 0.5, last - queries - 0.5),
        aspect="auto",
        interpolation="nearest",
    )
    axes.set_title(title, color=INK, fontsize=12)
    axes.set_xlabel("key position", color=INK)
    axes.set_ylabel("query position", color=INK)
    axes.tick_params(colors=INK)
    bar = figure.colorbar(
        image, cax=figure.add_axes((0.17, 0.11, 0.79, 0.03)), orientation="horizontal"
    )
    bar.set_label(label, color=INK)
    bar.ax.tick_params(colors=INK, labelsize=8)
    return figure
