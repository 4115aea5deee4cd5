"""A heatmap of one metric, layers along x and heads along y, that a mouse or the keyboard drives.

The browser draws it from a small JSON of numbers; cells of layers not measured yet are hatched.
Scales are fixed per metric, so that a switch changes colours and never the scale. Text reaches the
browser's template as numbers and fixed labels only: it would run whatever markup it is given.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from turbo_kv.figures.style import LEVELS
from turbo_kv.measure.report import Report
from turbo_kv.ui import numbers
from turbo_kv.ui.language import say
from turbo_kv.ui.wording import listed

_TEMPLATE = """
${value.caption ? `<div class="grid-caption">${value.caption}</div>` : ''}
<div class="grid-scroll"><div role="grid" class="heat" aria-label="${value.name}"
  aria-busy="${value.pending}" data-layers="${value.layers}"
  style="grid-template-columns: auto repeat(${value.layers}, minmax(2.6em, 1fr))">
<div role="row" class="heat-row"><span role="columnheader" class="corner">${value.corner}</span>
${Array.from({length: value.layers}, (_, layer) =>
  `<span role="columnheader" aria-label="${value.layer} ${layer}">${layer}</span>`).join('')}</div>
${value.rows.map((row, head) => `<div role="row" class="heat-row">
  <span role="rowheader" aria-label="${value.head} ${head}">${head}</span>
  ${row.map((cell, layer) => {
    const chosen = value.selected[0] === layer && value.selected[1] === head;
    const place = `${value.layer} ${layer}, ${value.head} ${head}`;
    const label = `${place}: ${cell ? cell[1] : value.unmeasured}`;
    return `<span role="gridcell" data-layer="${layer}" data-head="${head}" aria-label="${label}"
      aria-selected="${chosen}" tabindex="${chosen ? 0 : -1}" title="${label}"
      class="${cell ? 'l' + cell[0] : 'pending'} ${cell && cell[2] ? 'beyond' : ''}"
      >${cell ? cell[1] : ''}</span>`;
  }).join('')}</div>`).join('')}
</div></div>"""


@dataclass(frozen=True)
class Metric:
    """What one grid shows: a LayerReport field, whose heads, and its fixed scale.

    heads: "kv_head" or "query_head".
    loss: the value as an amount of damage, drawn on a logarithm from `low` to `high`.
    ticks: damage and label of each mark on the legend.
    """

    field: str
    heads: str
    loss: Callable[[float], float]
    low: float
    high: float
    text: Callable[[float], str]
    ticks: tuple[tuple[float, str], ...]

    @property
    def name(self) -> str:
        return say(f"metric.{self.field}")

    @property
    def head(self) -> str:
        return say(f"grid.{self.heads}")

    @property
    def legend(self) -> str:
        return say("grid.cosine" if self.heads == "kv_head" else "grid.kl")

    def place(self, loss: float) -> float:
        """0 at `high` damage (dark), 1 at `low` (bright); beyond the ends outside 0 to 1."""
        if loss <= 0:
            return math.inf
        return math.log(self.high / loss) / math.log(self.high / self.low)

    def cell(self, value: float) -> list[Any]:
        """[colour level, text, 1 when beyond the scale's dark end]."""
        place = self.place(self.loss(value))
        level = round(min(max(place, 0), 1) * (LEVELS - 1))
        return [level, self.text(value), int(place < 0)]


def _distance(cosine: float) -> float:
    return 1 - cosine


_COSINE_TICKS = (
    (1e-1, "0.9"),
    (0.0166, "0.983"),
    (0.0078, "0.992"),
    (1e-3, "0.999"),
    (1e-4, "0.9999"),
    (1e-5, "0.99999"),
)
KEYS = Metric(
    "key_cosine",
    "kv_head",
    _distance,
    1e-5,
    1e-1,
    numbers.cosine,
    _COSINE_TICKS,
)
VALUES = Metric(
    "value_cosine",
    "kv_head",
    _distance,
    1e-5,
    1e-1,
    numbers.cosine,
    _COSINE_TICKS,
)
ATTENTION = Metric(
    "attention_kl",
    "query_head",
    lambda kl: kl,
    1e-4,
    1e1,
    numbers.nats,
    ((1e1, "10"), (1e0, "1"), (1e-1, "0.1"), (1e-2, "0.01"), (1e-3, "0.001"), (1e-4, "0.0001")),
)


def states(
    metrics: Mapping[str, Metric], report: Report, selected: tuple[int, int], caption: str = ""
) -> dict[str, dict[str, Any]]:
    """What the browser draws of each metric; layers that the report does not have are pending.

    selected: layer and query head; a grid of KV heads marks the one that it reads. caption: what
    tells this grid from another of the same metric.
    """
    return {name: _state(metric, report, selected, caption) for name, metric in metrics.items()}


def _state(
    metric: Metric, report: Report, selected: tuple[int, int], caption: str
) -> dict[str, Any]:
    model, (layer, head) = report.model, selected
    of_queries = metric is ATTENTION
    heads = model.query_heads if of_queries else model.kv_heads
    values = report.grid(metric.field).T.tolist() if report.layers else [[]] * heads
    pending = [None] * (model.layers - len(report.layers))
    name = say("grid.name", metric=metric.name, head=metric.head)
    return {
        "name": listed([name, caption]) if caption else name,
        "caption": caption,
        "corner": f"{metric.head} ↓ {say('grid.layer')} →",
        "layer": say("grid.layer"),
        "unmeasured": say("grid.unmeasured"),
        "head": metric.head,
        "layers": model.layers,
        "pending": bool(pending),
        "rows": [[*map(metric.cell, row), *pending] for row in values],
        "selected": [layer, head * heads // model.query_heads],
    }


def component(value: dict[str, Any] | None, elem_id: str) -> gr.HTML:
    """The grid; its `select` event carries `index` as [layer, head]. None: out of sight yet."""
    return gr.HTML(
        value,
        html_template=_TEMPLATE,
        js_on_load=(Path(__file__).parent / "grid.js").read_text(),
        elem_id=elem_id,
        visible=value is not None,
    )


def legend(metric: Metric) -> str:
    """The colour bar with its ticks and unit, as HTML: dark for damage, bright for faithful."""
    ticks = "".join(
        f'<span style="left:{100 * metric.place(loss):.1f}%">{label}</span>'
        for loss, label in metric.ticks
    )
    ends = say("grid.ends", dark=metric.ticks[0][1], bright=metric.ticks[-1][1])
    return (
        '<div class="legend">'
        f'<div class="legend-bar bar-sequential" role="img" aria-label="{ends}"></div>'
        f'<div class="legend-ticks" aria-hidden="true">{ticks}</div>'
        f'<div class="legend-unit">{metric.legend}</div></div>'
    )
