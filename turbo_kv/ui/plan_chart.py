"""The chart of the tab Plan: weights and cache of every size in GiB from zero, and its table.

The axis ends a little behind the device's memory, so that what fits can be told apart; a bar that
goes further is cut, says so and still names its whole.
"""

from html import escape

from turbo_kv.figures.style import BEFORE, PARTS
from turbo_kv.measure.planner import GIB, Plan, PlanRequest
from turbo_kv.ui import numbers
from turbo_kv.ui.language import say
from turbo_kv.ui.plan_words import fits, limit

BEYOND = 1.2
"""Where the axis ends, in device memories."""

EXACT, PACKED = PARTS["exact_window"], PARTS["codes"]
_COLUMNS = (
    ("plan.weights", "unit.gib"),
    ("plan.cache_bf16", "unit.gib"),
    ("plan.cache_packed", "unit.gib"),
    ("metric.smaller", ""),
    ("plan.longest_bf16", "plan.tokens"),
    ("plan.longest_packed", "plan.tokens"),
    ("plan.limits", ""),
)
"""Keys of each name and of its unit."""


def html(plans: list[Plan], request: PlanRequest) -> str:
    """Two bars for each size on one axis, the device's memory drawn through them, a legend."""
    end = BEYOND * request.memory
    rows = "".join(_model(plan, end) for plan in plans)
    line = f'<span class="plan-line" style="left:{100 / BEYOND:.2f}%"></span>'
    return (
        f'<figure class="plan" aria-label="{say("plan.chart")}">'
        f'<ul class="parts">{_legend()}</ul>'
        f'<div class="plan-rows">{rows}<div class="plan-row plan-over" aria-hidden="true">'
        f'<div class="plan-overlay">{line}</div></div></div>'
        f'<div class="plan-row plan-axis" aria-hidden="true">'
        f"<div>{_ticks(request.memory, end)}</div></div></figure>"
    )


def _legend() -> str:
    parts = (("weights", BEFORE), ("exact", EXACT), ("packed", PACKED))
    drawn = "".join(
        f'<li><i style="background:{colour}"></i>{say(f"plan.legend.{name}")}</li>'
        for name, colour in parts
    )
    return drawn + f'<li><i class="plan-mark"></i>{say("plan.legend.device")}</li>'


def _model(plan: Plan, end: float) -> str:
    bars = "".join(
        _bar(plan, cache, colour, fits(plan, packed), end)
        for cache, colour, packed in (
            (plan.before_bytes, EXACT, False),
            (plan.after.total, PACKED, True),
        )
    )
    return (
        f'<div class="plan-row"><span class="plan-name">{escape(plan.card.name)}</span>{bars}</div>'
    )


def _bar(plan: Plan, cache: int, colour: str, fit: bool, end: float) -> str:
    weights = plan.card.weights_bytes
    total = weights + cache
    shown = min(weights, end), min(total, end) - min(weights, end)
    segments = "".join(
        f'<i style="width:{100 * size / end:.3f}%;background:{fill}"></i>'
        for size, fill in zip(shown, (BEFORE, colour))
    )
    cut = '<b class="plan-cut" aria-hidden="true">▸▸</b>' if total > end else ""
    said = say(
        "plan.fits" if fit else "plan.too_large",
        weights=numbers.gib(weights),
        cache=numbers.gib(cache),
    )
    return (
        f'<div class="plan-bar" role="img" aria-label="{said}">{segments}{cut}</div>'
        f'<div class="plan-said" aria-hidden="true">{numbers.gib(total)} GiB '
        f"{'✓' if fit else '✗'}</div>"
    )


def _ticks(memory: int, end: float) -> str:
    marks = [(memory * quarter / 4, "") for quarter in range(4)] + [(memory, "plan-device")]
    return "".join(
        f'<span class="{kind}" style="left:{100 * place / end:.2f}%">'
        f"{_short(place)}{' GiB' if kind else ''}</span>"
        for place, kind in marks
    )


def _short(count: float) -> str:
    return f"{count / GIB:,.4g}"


def table(plans: list[Plan]) -> str:
    """The numbers behind the chart, folded."""
    heads = "".join(
        f'<th scope="col">{say(name)} <small>{say(unit) if unit else ""}</small></th>'
        for name, unit in _COLUMNS
    )
    rows = "".join(_row(plan) for plan in plans)
    return (
        f'<details class="behind"><summary>{say("table.show")}</summary>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{say("plan.table")}">'
        f'<table class="layers"><thead><tr><th scope="col">{say("metric.model")}</th>{heads}</tr>'
        f"</thead><tbody>{rows}</tbody></table></div></details>"
    )


def _row(plan: Plan) -> str:
    cells = (
        numbers.gib(plan.card.weights_bytes),
        numbers.gib(plan.before_bytes),
        numbers.gib(plan.after.total),
        f"{plan.ratio:.2f}×",
        f"{plan.longest_before:,}",
        f"{plan.longest_after:,}",
        limit(plan),
    )
    return (
        f'<tr><th scope="row">{plan.card.name}</th>{"".join(f"<td>{c}</td>" for c in cells)}</tr>'
    )
