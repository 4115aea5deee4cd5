"""One head's attention over the last tokens, original, packed and their difference, to keep.

Knows arrays and the scales of `attention`; the first two panels share theirs.
"""

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from turbo_kv.figures.attention import probability_norm, scales, visible
from turbo_kv.figures.style import SEQUENTIAL, SIGNED


def maps(exact: np.ndarray, packed: np.ndarray, first_key: int, title: str) -> Figure:
    """Weights `(queries, keys)` in three panels; `first_key` is the position of the first key."""
    ends = scales(exact, packed)
    queries, keys = exact.shape
    last = first_key + keys
    extent = (first_key, last, last, last - queries)
    signed = Normalize(-ends.difference, ends.difference)
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    figure.suptitle(title)
    panels = (
        ("original", exact, SEQUENTIAL, probability_norm(ends), "weight"),
        ("packed", packed, SEQUENTIAL, probability_norm(ends), "weight"),
        ("packed − original", packed - exact, SIGNED, signed, "weight; 0.5% lie beyond"),
    )
    for axes, (name, values, cmap, norm, unit) in zip(figure.subplots(1, 3), panels):
        seen = np.where(visible(values.shape), values, np.nan)
        shown = axes.imshow(seen, cmap=cmap, norm=norm, extent=extent, interpolation="none")
        axes.set(title=name, xlabel="key position", ylabel="query position")
        figure.colorbar(shown, ax=axes, label=unit)
    return figure
