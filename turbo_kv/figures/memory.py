"""Keys and values before and after as stacked bars from zero, a figure to keep.

Knows bytes by purpose, nothing of how they were stored.
"""

from dataclasses import asdict

from matplotlib.figure import Figure

from turbo_kv.figures.style import BEFORE, PARTS
from turbo_kv.measure.report import Report

MIB = 2**20


def memory(report: Report, names: dict[str, str]) -> Figure:
    """Two bars in MiB on one axis; `names` says how each stored part is called."""
    figure = Figure(figsize=(7, 2.4))
    axes = figure.subplots()
    axes.barh("bf16", report.before_bytes / MIB, color=BEFORE)
    axes.text(report.before_bytes / MIB, 0, f" {report.before_bytes / MIB:,.2f}", va="center")
    left = 0.0
    for part, count in asdict(report.after).items():
        if count:
            axes.barh(
                "packed",
                count / MIB,
                left=left,
                color=PARTS[part],
                label=f"{names[part]} {count / MIB:,.3f} MiB",
            )
            left += count / MIB
    axes.text(left, 1, f" {left:,.2f}, {report.ratio:.2f}× smaller", va="center")
    axes.invert_yaxis()
    axes.set(xlabel="MiB of keys and values", xlim=(0, 1.12 * report.before_bytes / MIB))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False, fontsize="small")
    return figure
