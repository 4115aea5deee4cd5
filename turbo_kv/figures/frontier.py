"""Bits per value against KL: every method a point, one panel per text.

Knows names and numbers, not where they come from. Both axes are logarithmic. The line is Shannon's
bound for content alike in every direction, D >= 4^-bits, put where it belongs by one code whose D
and KL are known and by KL being in proportion to D, which holds for small errors only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

BITS = (2, 3, 4, 6, 8, 16)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#64748b")
MARKERS = "osD^vPX*"
LIGHTEST = 1e-4  # nats; what is below is drawn here


@dataclass(frozen=True)
class Series:
    """One method at several widths: bits per value and KL in nats, one pair each."""

    name: str
    bits: Sequence[float]
    kl: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """One text. `known_kl`, `known_distortion`: of the code that the bound hangs from."""

    title: str
    series: Sequence[Series]
    known_kl: float
    known_distortion: float


def frontier(panels: Sequence[Panel]) -> Figure:
    """The panels side by side, sharing both axes and one legend below."""
    figure = Figure(figsize=(4.0 * len(panels) + 0.6, 5.4), layout="constrained")
    grid = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    names = list(dict.fromkeys(series.name for panel in panels for series in panel.series))
    style = {name: (COLOURS[i % 8], MARKERS[i % 8], i < 8) for i, name in enumerate(names)}
    for axes, panel in zip(grid, panels):
        _draw(axes, panel, style)
    grid[0].set_ylabel("KL of the next token from the exact cache's, nats")
    handles = {}
    for axes in grid:
        for handle, label in zip(*axes.get_legend_handles_labels()):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)
    return figure


def _draw(axes: Axes, panel: Panel, style: dict[str, tuple[str, str, bool]]) -> None:
    bits = np.linspace(2, 8, 50)
    bound = panel.known_kl / panel.known_distortion * 4.0**-bits
    shown = bound > LIGHTEST
    axes.plot(
        bits[shown], bound[shown], color="#64748b", linestyle="--", label="Shannon, isotropic"
    )
    for series in panel.series:
        colour, marker, filled = style[series.name]
        axes.plot(
            series.bits,
            np.maximum(series.kl, LIGHTEST),
            color=colour,
            marker=marker,
            markerfacecolor=colour if filled else "white",
            linewidth=0.8,
            label=series.name,
        )
    axes.set_title(panel.title)
    axes.set_xlabel("bits per value, everything counted")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator(BITS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(alpha=0.3)
