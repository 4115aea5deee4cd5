"""One head's attention as three pictures with axes and colour bars: original, packed, difference.

The pixels are PNG; everything around them is text, so that it stays sharp and follows the theme.
"""

from base64 import b64encode

from turbo_kv.figures import attention
from turbo_kv.ui import map_values
from turbo_kv.ui.engine import Map


def html(measured: Map, layer: int, head: int, bits_per_value: float) -> str:
    """The figures, and what lies under the pointer or is reached by the arrow keys."""
    hint = "Attention maps; the arrow keys move the pointer, with Shift by sixteen tokens"
    return (
        f'<div class="maps" tabindex="0" role="group" aria-label="{hint}" '
        f"{map_values.attributes(measured)}>"
        + figures(measured, layer, head, bits_per_value)
        + '</div><p class="map-readout" aria-live="polite">Point at a map, or use the arrow keys: '
        "the tokens and their weights appear here.</p>" + map_values.changes(measured)
    )


def figures(measured: Map, layer: int, head: int, bits_per_value: float) -> str:
    """Three figures that share axes, the first two their colours too; no text that was read."""
    exact, packed = measured.exact, measured.packed
    ends = attention.scales(exact, packed)
    middle = attention.probability_norm(ends).inverse(0.5)
    weights = ["0", f"{middle:.2g}", f"{ends.probability:.2g}"]
    changes = [f"−{ends.difference:.2g}", "0", f"+{ends.difference:.2g}"]
    axes = _axes(measured)
    which = f"layer {layer}, head {head}, last {len(exact)} tokens"
    pictures = (
        ("Original", attention.probability(exact, ends), "sequential", weights, "weight"),
        (
            f"Packed, {bits_per_value:.2f} bits per value",
            attention.probability(packed, ends),
            "sequential",
            weights,
            "weight",
        ),
        (
            "Packed − original",
            attention.difference(packed - exact, ends),
            "signed",
            changes,
            "less attention (brown), more (violet); 0.5% lie beyond",
        ),
    )
    return "".join(
        f"<figure><figcaption>{title}</figcaption>"
        f'<div class="map-frame">{axes}<img alt="{title}: attention of {which}" '
        f'src="data:image/png;base64,{b64encode(png).decode()}">'
        '<span class="map-point"></span></div>'
        f"{_bar(kind, ticks, unit)}</figure>"
        for title, png, kind, ticks, unit in pictures
    )


def _axes(measured: Map) -> str:
    queries, keys = measured.exact.shape
    last = measured.first_key + keys - 1
    return (
        f'<span class="map-keys"><span>{measured.first_key:,}</span><span>key position</span>'
        f"<span>{last:,}</span></span>"
        f'<span class="map-queries"><span>{last - queries + 1:,}</span>'
        f"<span>query position</span><span>{last:,}</span></span>"
    )


def _bar(kind: str, ticks: list[str], unit: str) -> str:
    marks = "".join(f"<span>{tick}</span>" for tick in ticks)
    return (
        f'<div class="map-bar bar-{kind}"></div><div class="map-ticks">{marks}</div>'
        f'<div class="map-unit">{unit}</div>'
    )
