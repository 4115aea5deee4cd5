"""Memory before and after: stacked bars from zero, one scale, every stored part named.

Bytes come from storage by way of the report; nothing is computed from a formula here.
"""

from dataclasses import asdict

from turbo_kv.figures.style import BEFORE, PARTS, readable_on
from turbo_kv.measure.report import Report
from turbo_kv.ui import numbers
from turbo_kv.ui.language import say


def name(part: str) -> str:
    """What a stored part is called: "codes", "scales", ..."""
    return say(f"part.{part}")


def parts(report: Report) -> list[tuple[str, int]]:
    """What is stored, largest purpose first as in the codes' own order, empty ones left out."""
    return [(part, count) for part, count in asdict(report.after).items() if count]


def html(report: Report) -> str:
    """Two bars on one axis, the packed one again enlarged, and a legend in MiB."""
    whole, packed = report.before_bytes, report.after.total
    stored = parts(report)
    return (
        '<div class="memory">'
        + _bar("bf16", [(say("memory.both"), whole, BEFORE)], whole, numbers.mib(whole))
        + _bar(say("memory.packed"), _coloured(stored), whole, numbers.mib(packed))
        + _axis(whole)
        + _bar(say("memory.enlarged"), _coloured(stored), packed, numbers.mib(packed))
        + _axis(packed)
        + '<ul class="parts">'
        + "".join(
            f'<li><i style="background:{PARTS[part]}"></i>{name(part)} '
            f"{numbers.mib(count, 3)} MiB, {count / packed:.1%}</li>"
            for part, count in stored
        )
        + "</ul></div>"
    )


def _coloured(stored: list[tuple[str, int]]) -> list[tuple[str, int, str]]:
    return [(name(part), count, PARTS[part]) for part, count in stored]


def _bar(row: str, segments: list[tuple[str, int, str]], whole: int, total: str) -> str:
    drawn = "".join(
        f'<i style="width:{100 * count / whole:.3f}%;background:{colour};'
        f'color:{readable_on(colour)}">{label if count > 0.15 * whole else ""}</i>'
        for label, count, colour in segments
    )
    return (
        f'<div class="memory-row"><span class="memory-name">{row}</span>'
        f'<span class="memory-bar">{drawn}</span>'
        f'<span class="memory-total">{total} MiB</span></div>'
    )


def _axis(whole: int) -> str:
    ticks = "".join(
        f'<span style="left:{25 * step}%">{numbers.mib(whole * step // 4)}</span>'
        for step in range(5)
    )
    return (
        '<div class="memory-row memory-axis">'
        f"<span></span><span>{ticks}</span><span>MiB</span></div>"
    )
