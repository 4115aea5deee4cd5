"""A result that stays on screen beside the next one: its grids, and both in one table.

Knows two reports; they may differ in model, text and every setting.
"""

from html import escape
from typing import Any

import gradio as gr

from turbo_kv.measure.report import Report
from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui import findings, grid, numbers, wording
from turbo_kv.ui.session import Pin, Session

PREFIX = "pinned_"
_DEFAULT = QuantConfig()


def buttons() -> dict[str, gr.Component]:
    """Pin, and while something is pinned Unpin."""
    with gr.Row(elem_id="pins"):
        return {
            "pin": gr.Button("Pin this result", size="sm", elem_id="pin", min_width=140),
            "unpin": gr.Button("Unpin", size="sm", visible=False, elem_id="unpin", min_width=100),
        }


def render(session: Session, metrics: dict[str, grid.Metric]) -> dict[str, Any]:
    """Table, grids and buttons; all out of sight while nothing is pinned."""
    pin = session.pinned
    names = [PREFIX + name for name in metrics]
    if pin is None:
        hidden = {name: gr.update(visible=False) for name in ("unpin", "pinned", *names)}
        return hidden | {"pin": gr.update(value="Pin this result")}
    states = grid.states(metrics, pin.report, _mark(session, pin), f"pinned, {_which(pin)}")
    return {
        "pin": gr.update(value="Pin this result instead"),
        "unpin": gr.update(visible=True),
        "pinned": gr.update(value=html(pin, session), visible=True),
    } | {PREFIX + name: gr.update(value=state, visible=True) for name, state in states.items()}


def html(pin: Pin, session: Session) -> str:
    """A sentence and a table: the pinned result, and the one shown now."""
    before, after = pin.report, session.shown
    rows = "".join(
        f'<tr><th scope="row">{name}</th>'
        + "".join(f"<td>{escape(form(report))}</td>" for report in (before, after))
        + "</tr>"
        for name, form in _ROWS
    )
    return (
        f'<div class="section"><h3>Pinned: {_which(pin)}</h3>'
        f'<p class="finding">{escape(finding(before, after))}</p></div>'
        '<div class="scroll" tabindex="0" role="region" aria-label="Pinned and shown">'
        '<table class="layers pinned"><thead><tr><th scope="col"></th>'
        f'<th scope="col">Pinned, {_which(pin)}</th><th scope="col">Now</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def finding(before: Report, after: Report) -> str:
    """How the result shown differs from the pinned one, in attention and in bytes."""
    if before is after:
        return (
            "This is the result shown. Flip a switch or press Run: the next one stands beside it."
        )
    old, new = findings.kl(before), findings.kl(after)
    factor = max(old, 1e-9) / max(new, 1e-9)
    if factor >= findings.ALIKE:
        said = f"{numbers.times(factor)} times closer to exact than in"
    elif factor <= 1 / findings.ALIKE:
        said = f"{numbers.times(1 / factor)} times further from exact than in"
    else:
        said = "as far from exact as in"
    return (
        f"Attention is {said} the pinned result: KL {numbers.nats(old)} → {numbers.nats(new)} "
        f"nats, at {before.bits_per_value:.2f} → {after.bits_per_value:.2f} bits per value."
    )


def _which(pin: Pin) -> str:
    return f"run {pin.number}" if pin.number else "the precomputed result"


def _mark(session: Session, pin: Pin) -> tuple[int, int]:
    """The selection, where the pinned model has that head; the first head otherwise."""
    layer, head = session.selected
    model = pin.report.model
    return (layer, head) if layer < model.layers and head < model.query_heads else (0, 0)


def _setting(report: Report) -> str:
    names = ["bits", "centering"]
    names += [name for name in wording.changed(_DEFAULT, report.config) if name not in names]
    return wording.setting(report.config, names)


_ROWS = (
    ("Model", lambda report: report.model.name),
    ("Text", lambda report: f"{report.tokens:,} tokens of {report.text.name}"),
    ("Setting", _setting),
    (
        "MiB of K and V",
        lambda report: f"{numbers.mib(report.before_bytes)} → {numbers.mib(report.after.total)}",
    ),
    ("Smaller", lambda report: f"{report.ratio:.2f}×"),
    ("Bits per value", lambda report: f"{report.bits_per_value:.2f}"),
    ("Attention KL, mean", lambda report: f"{numbers.nats(findings.kl(report))} nats"),
    (
        "Attention KL, worst head",
        lambda report: f"{numbers.nats(float(report.grid('attention_kl').max()))} nats",
    ),
    (
        "Strongest key unchanged",
        lambda report: numbers.percent(float(report.grid("top1").mean())),
    ),
    ("Key cosine", lambda report: numbers.cosine(float(report.grid("key_cosine").mean()))),
)
