"""One metric of every layer and head as a figure to keep: cividis, bright where faithful.

Knows only an array of damages and the ends of its scale; the scale is fixed, so that figures of
different runs can be laid side by side. Cells beyond the dark end carry a mark.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from turbo_kv.figures.style import SEQUENTIAL


def heat(
    loss: np.ndarray,
    ends: tuple[float, float],
    ticks: Sequence[tuple[float, str]],
    *,
    title: str,
    head: str,
    unit: str,
) -> Figure:
    """Damages `(layers, heads)` on a logarithm from `ends[0]`, bright, to `ends[1]`, dark.

    ticks: damage and label of each mark on the colour bar. head: what a row is. unit: of the bar.
    """
    low, high = ends
    layers, heads = loss.shape
    figure = Figure(figsize=(1.6 + 0.42 * max(layers, 10), 1.5 + 0.32 * heads))
    axes = figure.subplots()
    shown = axes.imshow(
        np.clip(loss.T, low, high),
        cmap=colormaps[SEQUENTIAL].reversed(),
        norm=LogNorm(low, high),
        aspect="auto",
        interpolation="none",
    )
    for layer, row in zip(*np.nonzero(loss > high)):
        axes.text(layer, row, "▾", color="white", ha="center", va="center")
    axes.set(title=title, xlabel="layer", ylabel=head)
    axes.set_xticks(range(0, layers, 1 + layers // 24))
    axes.set_yticks(range(heads))
    bar = figure.colorbar(shown, ax=axes, label=unit)
    bar.set_ticks([loss for loss, _ in ticks], labels=[label for _, label in ticks])
    bar.minorticks_off()
    return figure
