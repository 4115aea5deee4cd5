"""Weights and cache of several models against a device's memory, a figure to keep.

Knows names and bytes. The axis ends a little behind the memory; what goes further is cut, carries
an arrow and still names its whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from turbo_kv.figures.style import BEFORE, PARTS

GIB = 2**30
HEIGHT = 0.38
"""Of a bar; a model has two in a row of height one."""


@dataclass(frozen=True)
class Bars:
    """One model: bytes of its weights, and of its cache in bf16 and packed."""

    name: str
    weights: int
    exact: int
    packed: int


def plan(models: Sequence[Bars], memory: int, beyond: float, title: str) -> Figure:
    """Two bars a model in GiB from zero; the axis ends at `beyond` memories."""
    end = beyond * memory / GIB
    figure = Figure(figsize=(8, 1.4 + 0.62 * len(models)), layout="constrained")
    axes = figure.subplots()
    caches = (("cache in bf16", PARTS["exact_window"]), ("cache packed", PARTS["codes"]))
    for row, model in enumerate(models):
        weights = model.weights / GIB
        sides = zip((model.exact, model.packed), caches, (-0.2, 0.2))
        for cache, (name, colour), shift in sides:
            total = weights + cache / GIB
            label = row == 0
            axes.barh(
                row + shift,
                weights,
                HEIGHT,
                color=BEFORE,
                label="weights, bf16" if label and shift < 0 else None,
            )
            axes.barh(
                row + shift,
                cache / GIB,
                HEIGHT,
                left=weights,
                color=colour,
                label=name if label else None,
            )
            fits = "fits" if total <= memory / GIB else "does not fit"
            arrow = "→ " if total > end else ""
            axes.text(
                1.01 * end, row + shift, f"{arrow}{total:,.2f}, {fits}", va="center", fontsize=8
            )
    axes.axvline(memory / GIB, color="black", linestyle="--", label="the device's memory")
    axes.set(xlim=(0, end), xlabel="GiB")
    axes.set_title(title, fontsize="medium")
    axes.set_yticks(range(len(models)), [model.name for model in models])
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=4, frameon=False)
    return figure
