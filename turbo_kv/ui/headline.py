"""The strip above the tabs: memory before and after, its sum, attention, and the stamp."""

from html import escape

from turbo_kv.measure.report import Report
from turbo_kv.ui import findings, memory_bar, numbers
from turbo_kv.ui.language import counted, heard, say


def html(report: Report, beforehand: bool) -> str:
    """Five figures, the formula with its numbers, and what was measured on what."""
    figures = (
        (
            f"{numbers.mib(report.before_bytes)} → {numbers.mib(report.after.total)}",
            say("headline.mib"),
        ),
        (f"{report.ratio:.2f}×", say("headline.smaller")),
        (f"{report.bits_per_value:.2f}", say("headline.bits")),
        (numbers.nats(findings.kl(report)), say("headline.kl")),
        (numbers.percent(float(report.grid("top1").mean())), say("headline.top1")),
    )
    tiles = "".join(f"<div><b>{number}</b><span>{unit}</span></div>" for number, unit in figures)
    return (
        f'<div class="headline"><div class="tiles">{tiles}</div>'
        f"<p>{formula(report)}</p><p>{escape(stamp(report, beforehand))}</p></div>"
    )


def formula(report: Report) -> str:
    """The size of a bf16 cache with its factors, and the packed size as the sum of its parts."""
    model = report.model
    stored = " + ".join(
        f"{memory_bar.name(part)} {numbers.mib(count, 3)}"
        for part, count in memory_bar.parts(report)
    )
    return say(
        "headline.formula",
        layers=model.layers,
        kv_heads=model.kv_heads,
        head_dim=model.head_dim,
        tokens=f"{report.tokens:,}",
        before=numbers.mib(report.before_bytes),
        stored=stored,
        after=numbers.mib(report.after.total),
        ratio=f"<strong>{report.ratio:.2f}×</strong>",
        bits=f"{report.bits_per_value:.2f}",
    )


def stamp(report: Report, beforehand: bool) -> str:
    """Where the numbers come from: model, text, device and code path."""
    model, text = report.model, report.text
    parts = [
        say("headline.precomputed" if beforehand else "headline.here"),
        # What a reader must know of this model to judge its numbers.
        say("headline.tiny") if model.name == "tiny" else model.name,
        say("text.read", tokens=counted("tokens", report.tokens), text=heard("name", text.name)),
        say("headline.queries", queries=report.queries),
        f"{model.device} {model.dtype}",
        heard("path", report.path),
    ]
    return " · ".join([*parts, *(heard("note", note) for note in text.notes)])
