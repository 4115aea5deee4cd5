"""The shown result as files: the report as JSON, CSV and one HTML page, its figures as PNG and SVG.

Files are made when somebody asks and sent at once; none is kept on the server.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from turbo_kv.figures.heat import heat
from turbo_kv.figures.maps import maps
from turbo_kv.figures.memory import memory
from turbo_kv.figures.save import save
from turbo_kv.figures.style import PARTS
from turbo_kv.measure.report import Report
from turbo_kv.measure.report_csv import to_csv
from turbo_kv.ui import grid, memory_bar, report_page, wording
from turbo_kv.ui.engine import Map
from turbo_kv.ui.session import Session

FIGURES: dict[str, Callable[[Report], Figure]] = {
    "memory": lambda report: memory(report, {part: memory_bar.name(part) for part in PARTS}),
    "key-cosine": lambda report: _heat(report, grid.KEYS),
    "value-cosine": lambda report: _heat(report, grid.VALUES),
    "attention-kl": lambda report: _heat(report, grid.ATTENTION),
}
MAP = "attention-map"
FILES = (
    *(f"report.{form}" for form in ("json", "csv", "html")),
    *(f"{name}.{form}" for name in (*FIGURES, MAP) for form in ("png", "svg")),
)


def make(name: str, session: Session, stamp: dict[str, Any], measured: Map | None) -> bytes:
    """One of FILES. `measured`, the selected head's attention, joins the page when it is at hand.

    Raises ValueError for any other name, and for a map that is not at hand.
    """
    if name not in FILES:
        raise ValueError(f"there is no file {name!r}; choose one of {', '.join(FILES)}")
    stem, form = name.split(".")
    report = session.shown
    if stem == MAP:
        return save(_maps(session, measured), form)
    if stem != "report":
        return save(FIGURES[stem](report), form)
    if form == "csv":
        return to_csv(report).encode()
    data = json.dumps(report.to_dict() | {"stamp": stamp}, indent=1, allow_nan=False)
    if form == "json":
        return data.encode()
    drawn = {name: draw(report) for name, draw in FIGURES.items()}
    return report_page.html(session, drawn, measured, data, stamp).encode()


def _maps(session: Session, measured: Map | None) -> Figure:
    if measured is None:
        raise ValueError("the text of this map is not kept any more; press Run again")
    layer, head = session.selected
    report = session.shown
    setting = wording.setting(report.config, ["bits", "centering"])
    title = f"Attention of {report.model.name}, layer {layer}, head {head}; {setting}"
    return maps(measured.exact, measured.packed, measured.first_key, title)


def _heat(report: Report, metric: grid.Metric) -> Figure:
    values = report.grid(metric.field)
    mean = metric.text(float(values.mean()))
    setting = wording.setting(report.config, ["bits", "centering"])
    return heat(
        np.vectorize(metric.loss)(values),
        (metric.low, metric.high),
        metric.ticks,
        title=f"{metric.name} of {report.model.name}, mean {mean}\n{setting}, "
        f"{report.bits_per_value:.2f} bits per value, {report.tokens:,} tokens",
        head=metric.head,
        unit="nats" if metric is grid.ATTENTION else "cosine similarity",
    )
