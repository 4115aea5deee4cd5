"""What the tab Compare shows, as HTML: the sortable table, and two methods layer by layer.

Knows points, not components.
"""

from collections.abc import Sequence
from html import escape

from turbo_kv.figures.pareto import Dot, pareto
from turbo_kv.measure.point import Point, front
from turbo_kv.ui import numbers
from turbo_kv.ui.grid import ATTENTION

_COLUMNS = (
    ("bits_per_value", "Bits per value", "everything stored", "{:.2f}".format),
    ("attention_kl", "Attention KL", "nats, mean", numbers.nats),
    ("logit_correlation", "Logit correlation", "worst head", numbers.correlation),
    ("top1", "Strongest key", "unchanged", numbers.percent),
    ("key_cosine", "Key cosine", "mean", numbers.cosine),
    ("value_cosine", "Value cosine", "mean", numbers.cosine),
)


def plot(points: Sequence[Point], picked: Sequence[str], finding: str) -> str:
    """Size against damage; on a phone it scrolls inside itself."""
    best = {point.name for point in front(points)}
    dots = [
        Dot(
            point.name,
            point.bits_per_value,
            point.attention_kl,
            point.name in best,
            point.name in picked,
        )
        for point in points
    ]
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Size against damage">'
        f"{pareto(dots, finding)}</div>"
        '<p class="key"><span class="on-front">●</span> not beaten at its size '
        '<span class="off-front">○</span> beaten <span class="picked">◆</span> compared below; '
        "a mark without a name says it when pointed at</p>"
    )


def table(points: Sequence[Point]) -> str:
    """A row for each method; a column's button sorts by it (sort.js)."""
    heads = "".join(
        f'<th scope="col"><button type="button" data-sort>{title} <small>{unit}</small></button>'
        "</th>"
        for _, title, unit, _ in (("", "Method", "", None), *_COLUMNS)
    )
    rows = "".join(
        f'<tr><th scope="row" data-value="{index}">{escape(point.name)}</th>'
        + "".join(
            f'<td data-value="{getattr(point, field):.6g}">{text(getattr(point, field))}</td>'
            for field, _, _, text in _COLUMNS
        )
        + "</tr>"
        for index, point in enumerate(points)
    )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Every method">'
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
        f'<p class="key"><span class="picked">◆</span> {escape(first.name)} '
        f'<span class="on-front">●</span> {escape(second.name)}; attention KL by layer, nats, '
        "logarithmic; left is closer to exact</p>"
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
    names = [escape(point.name) for point in (first, second)]
    heads = "".join(
        f'<th scope="col">{metric} <small>{name}</small></th>'
        for metric in ("Attention KL, nats", "Key cosine", "Value cosine")
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
        '<details class="behind"><summary>Show as table</summary>'
        '<div class="scroll" tabindex="0" role="region" aria-label="Two methods by layer">'
        f'<table class="layers"><thead><tr><th scope="col">Layer</th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details>"
    )
