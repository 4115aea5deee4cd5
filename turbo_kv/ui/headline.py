"""The strip above the tabs: memory before and after, its sum, attention, and the stamp."""

from html import escape

from turbo_kv.measure.report import Report
from turbo_kv.ui import findings, numbers
from turbo_kv.ui.memory_bar import NAMES, parts

ABOUT = {"tiny": "tiny, trained for this project with Qwen2.5's published key bias planted"}
"""What a reader must know of a model to judge its numbers."""


def html(report: Report, precomputed: bool) -> str:
    """Five figures, the formula with its numbers, and what was measured on what."""
    figures = (
        (
            f"{numbers.mib(report.before_bytes)} → {numbers.mib(report.after.total)}",
            "MiB of K and V",
        ),
        (f"{report.ratio:.2f}×", "smaller"),
        (f"{report.bits_per_value:.2f}", "bits per value"),
        (numbers.nats(findings.kl(report)), "nats attention KL, mean"),
        (numbers.percent(float(report.grid("top1").mean())), "strongest key unchanged"),
    )
    tiles = "".join(f"<div><b>{number}</b><span>{unit}</span></div>" for number, unit in figures)
    return (
        f'<div class="headline"><div class="tiles">{tiles}</div>'
        f"<p>{formula(report)}</p><p>{escape(stamp(report, precomputed))}</p></div>"
    )


def formula(report: Report) -> str:
    """The size of a bf16 cache with its factors, and the packed size as the sum of its parts."""
    model = report.model
    stored = " + ".join(f"{NAMES[name]} {numbers.mib(count, 3)}" for name, count in parts(report))
    return (
        f"2 × {model.layers} layers × {model.kv_heads} KV heads × {model.head_dim} × "
        f"{report.tokens:,} tokens × 2 B = {numbers.mib(report.before_bytes)} MiB. "
        f"Stored: {stored} = {numbers.mib(report.after.total)} MiB, "
        f"<strong>{report.ratio:.2f}×</strong>, {report.bits_per_value:.2f} bits per value."
    )


def stamp(report: Report, precomputed: bool) -> str:
    """Where the numbers come from: model, text, device and code path."""
    model, text = report.model, report.text
    parts = [
        "Precomputed" if precomputed else "Measured here",
        ABOUT.get(model.name, model.name),
        f"{report.tokens:,} tokens of {text.name}",
        f"attention over the last {report.queries} queries",
        f"{model.device} {model.dtype}",
        report.path,
    ]
    return " · ".join([*parts, *text.notes])
