"""What the tab Compare shows, as HTML: the sortable table, and two methods layer by layer.

Knows points, not components.
"""

from collections.abc import Sequence
from html import escape

from turbo_kv.figures.pareto import Dot, Words, pareto
from turbo_kv.measure.point import Point, front
from turbo_kv.ui import numbers
from turbo_kv.ui.compare_words import called
from turbo_kv.ui.grid import ATTENTION
from turbo_kv.ui.language import say, unfilled

_COLUMNS = (
    ("bits_per_value", "unit.stored", "{:.2f}".format),
    ("attention_kl", "unit.nats_mean", numbers.nats),
    ("logit_correlation", "unit.worst_head", numbers.correlation),
    ("top1", "unit.unchanged", numbers.percent),
    ("key_cosine", "unit.mean", numbers.cosine),
    ("value_cosine", "unit.mean", numbers.cosine),
)
"""Field of a point, key of its unit, and how it is written."""


def plot(points: Sequence[Point], picked: Sequence[str], finding: str) -> str:
    """Size against damage; on a phone it scrolls inside itself."""
    best = {point.name for point in front(points)}
    dots = [
        Dot(
            called(point.name),
            point.bits_per_value,
            point.attention_kl,
            point.name in best,
            point.name in picked,
        )
        for point in points
    ]
    words = Words(*(unfilled(f"compare.axis.{name}") for name in Words._fields))
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{say("compare.plot")}">'
        f"{pareto(dots, finding, words)}</div>"
        f'<p class="key"><span class="on-front">●</span> {say("compare.key.front")} '
        f'<span class="off-front">○</span> {say("compare.key.beaten")} '
        f'<span class="picked">◆</span> {say("compare.key.picked")}</p>'
    )


def table(points: Sequence[Point]) -> str:
    """A row for each method; a column's button sorts by it (sort.js)."""
    titles = [(say("compare.method"), "")]
    titles += [(say(f"metric.{field}"), say(unit)) for field, unit, _ in _COLUMNS]
    heads = "".join(
        f'<th scope="col"><button type="button" data-sort>{title} <small>{unit}</small></button>'
        "</th>"
        for title, unit in titles
    )
    rows = "".join(
        f'<tr><th scope="row" data-value="{index}">{escape(called(point.name))}</th>'
        + "".join(
            f'<td data-value="{getattr(point, field):.6g}">{text(getattr(point, field))}</td>'
            for field, _, text in _COLUMNS
        )
        + "</tr>"
        for index, point in enumerate(points)
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{say("compare.every")}">'
        f'<table class="layers sortable"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>'
        "</table></div>"
    )


def layers(first: Point, second: Point) -> str:
    """Attention KL of two methods in every layer on one logarithm, and their cosines behind it."""
    rows = "".join(
        f'<div class="pair-row"><span>{layer}</span>{_track(*kl)}'
        f'<span class="pair-said">{numbers.nats(kl[0])} · {numbers.nats(kl[1])}</span></div>'
        for layer, kl in enumerate(zip(first.layer_kl, second.layer_kl))
    )
    ticks = "".join(
        f'<span style="left:{_left(loss):.2f}%">{label}</span>' for loss, label in ATTENTION.ticks
    )
    return (
        f'<p class="key"><span class="picked">◆</span> {escape(called(first.name))} '
        f'<span class="on-front">●</span> {escape(called(second.name))}; {say("compare.by_layer")}'
        "</p>"
        f'<div class="pair" aria-hidden="true">{rows}<div class="pair-row pair-axis"><span></span>'
        f"<div>{ticks}</div><span></span></div></div>{_behind(first, second)}"
    )


def _left(kl: float) -> float:
    return 100 * min(max(1 - ATTENTION.place(kl), 0), 1)


def _track(first: float, second: float) -> str:
    ends = sorted((_left(first), _left(second)))
    return (
        '<div class="pair-track">'
        f'<i style="left:{ends[0]:.2f}%;width:{ends[1] - ends[0]:.2f}%"></i>'
        f'<b class="on-front" style="left:{_left(second):.2f}%">●</b>'
        f'<b class="picked" style="left:{_left(first):.2f}%">◆</b></div>'
    )


def _behind(first: Point, second: Point) -> str:
    names = [escape(called(point.name)) for point in (first, second)]
    heads = "".join(
        f'<th scope="col">{metric} <small>{name}</small></th>'
        for metric in map(say, ("metric.kl_nats", "metric.key_cosine", "metric.value_cosine"))
        for name in names
    )
    columns = (
        (numbers.nats, first.layer_kl, second.layer_kl),
        (numbers.cosine, first.layer_key_cosine, second.layer_key_cosine),
        (numbers.cosine, first.layer_value_cosine, second.layer_value_cosine),
    )
    rows = "".join(
        f'<tr><th scope="row">{layer}</th>'
        + "".join(f"<td>{text(a[layer])}</td><td>{text(b[layer])}</td>" for text, a, b in columns)
        + "</tr>"
        for layer in range(len(first.layer_kl))
    )
    return (
        f'<details class="behind"><summary>{say("table.show")}</summary>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{say("compare.two")}">'
        f'<table class="layers"><thead><tr><th scope="col">{say("metric.layer")}</th>{heads}</tr>'
        f"</thead><tbody>{rows}</tbody></table></div></details>"
    )
