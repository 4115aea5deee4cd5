"""One head's attention as three pictures with axes and colour bars: original, packed, difference.

The pixels are PNG; everything around them is text, so that it stays sharp and follows the theme.
"""

import json
from base64 import b64encode
from html import escape

from turbo_kv.figures import attention
from turbo_kv.ui import map_values
from turbo_kv.ui.engine import Map
from turbo_kv.ui.language import say, unfilled


def html(measured: Map, layer: int, head: int, bits_per_value: float) -> str:
    """The figures, and what lies under the pointer or is reached by the arrow keys."""
    said = {name: unfilled(f"maps.pointed.{name}") for name in ("weights", "future", "under")}
    return (
        f'<div class="maps" tabindex="0" role="group" aria-label="{say("maps.hint")}" '
        f'data-said="{escape(json.dumps(said, ensure_ascii=False))}" '
        f"{map_values.attributes(measured)}>"
        + figures(measured, layer, head, bits_per_value)
        + f'</div><p class="map-readout" aria-live="polite">{say("maps.point")}</p>'
        + map_values.changes(measured)
    )


def figures(measured: Map, layer: int, head: int, bits_per_value: float) -> str:
    """Three figures that share axes, the first two their colours too; no text that was read."""
    exact, packed = measured.exact, measured.packed
    ends = attention.scales(exact, packed)
    middle = attention.probability_norm(ends).inverse(0.5)
    weights = ["0", f"{middle:.2g}", f"{ends.probability:.2g}"]
    changes = [f"−{ends.difference:.2g}", "0", f"+{ends.difference:.2g}"]
    axes = _axes(measured)
    pictures = (
        (
            say("maps.original"),
            attention.probability(exact, ends),
            "sequential",
            weights,
            say("maps.weight"),
        ),
        (
            say("maps.packed", bits=f"{bits_per_value:.2f}"),
            attention.probability(packed, ends),
            "sequential",
            weights,
            say("maps.weight"),
        ),
        (
            say("maps.difference"),
            attention.difference(packed - exact, ends),
            "signed",
            changes,
            say("maps.signed"),
        ),
    )

    def alt(title: str) -> str:
        return say("maps.alt", title=title, layer=layer, head=head, tokens=len(exact))

    return "".join(
        f"<figure><figcaption>{title}</figcaption>"
        f'<div class="map-frame">{axes}<img alt="{alt(title)}" '
        f'src="data:image/png;base64,{b64encode(png).decode()}">'
        '<span class="map-point"></span></div>'
        f"{_bar(kind, ticks, unit)}</figure>"
        for title, png, kind, ticks, unit in pictures
    )


def _axes(measured: Map) -> str:
    queries, keys = measured.exact.shape
    last = measured.first_key + keys - 1
    return (
        f'<span class="map-keys"><span>{measured.first_key:,}</span><span>{say("maps.key")}</span>'
        f"<span>{last:,}</span></span>"
        f'<span class="map-queries"><span>{last - queries + 1:,}</span>'
        f"<span>{say('maps.query')}</span><span>{last:,}</span></span>"
    )


def _bar(kind: str, ticks: list[str], unit: str) -> str:
    marks = "".join(f"<span>{tick}</span>" for tick in ticks)
    return (
        f'<div class="map-bar bar-{kind}"></div><div class="map-ticks">{marks}</div>'
        f'<div class="map-unit">{unit}</div>'
    )
