"""Figures of the family report: memory before and after, time, and what 0.999 means.

Takes the rows of the result files as they are, and returns each figure with its finding.
"""

from io import StringIO
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from turbo_kv.figures.style import BEFORE, PARTS

MIB = 2**20
AFTER = PARTS["codes"]
KEYS, VALUES = PARTS["codes"], PARTS["exact_window"]

Row = dict[str, Any]


def family(rows: list[Row]) -> list[tuple[Figure, str]]:
    """The figures that the rows allow, each with the sentence that says what it shows."""
    done = [row for row in rows if row["missing"] is None]
    compared = [row for row in done if row["cosine"]]
    drawn = []
    if done:
        drawn += [memory(done), seconds(done)]
    if compared:
        drawn.append(cosines(max(compared, key=lambda row: row["context"])))
    return drawn


def memory(rows: list[Row]) -> tuple[Figure, str]:
    """Bars of bytes before and after."""
    figure, axes, places = _bars(rows, "MiB of keys and values")
    for offset, side, colour, name in (
        (-0.2, "before_bytes", BEFORE, "bf16"),
        (0.2, "after_bytes", AFTER, "packed"),
    ):
        sizes = [row["memory"][side] / MIB for row in rows]
        bars = axes.barh([place + offset for place in places], sizes, 0.38, color=colour)
        axes.bar_label(bars, [f"{name} {size:,.1f}" for size in sizes], padding=3, fontsize=8)
    axes.margins(x=0.15)
    least, most = (choose(row["memory"]["ratio"] for row in rows) for choose in (min, max))
    span = f"{least:.2f}" if f"{least:.2f}" == f"{most:.2f}" else f"{least:.2f} to {most:.2f}"
    return figure, f"Stored, a cache is {span}× smaller."


def seconds(rows: list[Row]) -> tuple[Figure, str]:
    """The times of capturing and of storing, on a logarithmic scale."""
    figure, axes, places = _bars(rows, "seconds")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for step, colour, marker, name in (
        ("capture", BEFORE, "s", "read the text"),
        ("quantize", AFTER, "o", "store"),
    ):
        times = [row["seconds"][step] for row in rows]
        axes.scatter(times, places, color=colour, marker=marker, label=name, zorder=2)
        for time, place in zip(times, places):
            axes.annotate(f"{time:.2g}", (time, place - 0.2), ha="center", fontsize=8)
    axes.margins(x=0.1, y=0.4)
    axes.legend(loc="best", frameon=False)
    worst = max(row["seconds"]["quantize"] / row["seconds"]["capture"] for row in rows)
    return figure, f"Storing takes at most {worst:.0%} of the time of reading the text."


def cosines(row: Row) -> tuple[Figure, str]:
    """Cosine of one row by every definition, as its distance from 1, logarithmic."""
    sides = row["cosine"]
    names = list(sides["keys"])
    figure = Figure(figsize=(8, 0.5 * len(names) + 1.2), layout="constrained")
    axes = figure.subplots()
    for side, colour, marker in (("keys", KEYS, "o"), ("values", VALUES, "s")):
        distances = [1 - sides[side][name] for name in names]
        axes.scatter(
            distances, range(len(names)), color=colour, marker=marker, label=side, zorder=2
        )
    axes.axvline(1 - 0.999, color=BEFORE, linestyle="--", linewidth=1)
    place = {"xytext": (3, 0), "textcoords": "offset points", "fontsize": 8, "color": BEFORE}
    axes.annotate("0.999", (1 - 0.999, len(names) - 0.4), **place)
    axes.set_xscale("log")
    axes.invert_xaxis()
    axes.xaxis.set_major_formatter(FuncFormatter(lambda distance, _: f"{1 - distance:.6g}"))
    axes.set(
        yticks=range(len(names)), yticklabels=names, xlabel="cosine", ylim=(len(names) - 0.2, -0.7)
    )
    axes.legend(loc="center right", frameon=False)
    high = ", ".join(name for name in names if sides["keys"][name] > 0.999) or "none"
    return figure, (
        f"One cache of {row['model']}, {row['context']:,} tokens. Definitions by which the cosine "
        f"of its keys passes 0.999: {high}."
    )


def svg(figure: Figure, name: str) -> str:
    """The figure as an SVG element, text as text; `name` keeps its ids apart from another's."""
    file = StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return "<svg" + file.getvalue().partition("<svg")[2]


def _bars(rows: list[Row], unit: str) -> tuple[Figure, Any, range]:
    figure = Figure(figsize=(8, 0.7 * len(rows) + 1), layout="constrained")
    axes = figure.subplots()
    labels = [
        f"{row['model']}{' (random)' if row['weights'] == 'random' else ''}\n"
        f"{row['context']:,} tokens, {row['device']}"
        for row in rows
    ]
    axes.set(yticks=range(len(rows)), yticklabels=labels, xlabel=unit)
    axes.invert_yaxis()
    return figure, axes, range(len(rows))
