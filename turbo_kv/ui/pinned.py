"""A result that stays on screen beside the next one: its grids, and both in one table.

Knows two reports; they may differ in model, text and every setting.
"""

from html import escape
from typing import Any

import gradio as gr

from turbo_kv.measure.report import Report
from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui import findings, grid, numbers, wording
from turbo_kv.ui.language import counted, heard, say
from turbo_kv.ui.session import Pin, Session

PREFIX = "pinned_"
_DEFAULT = QuantConfig()


def buttons() -> dict[str, gr.Component]:
    """Pin, and while something is pinned Unpin."""
    with gr.Row(elem_id="pins"):
        return {
            "pin": gr.Button(say("pin.pin"), size="sm", elem_id="pin", min_width=140),
            "unpin": gr.Button(
                say("pin.unpin"), size="sm", visible=False, elem_id="unpin", min_width=100
            ),
        }


def render(session: Session, metrics: dict[str, grid.Metric]) -> dict[str, Any]:
    """Table, grids and buttons; all out of sight while nothing is pinned."""
    pin = session.pinned
    names = [PREFIX + name for name in metrics]
    if pin is None:
        hidden = {name: gr.update(visible=False) for name in ("unpin", "pinned", *names)}
        return hidden | {"pin": gr.update(value=say("pin.pin"))}
    states = grid.states(metrics, pin.report, _mark(session, pin), _caption(pin))
    return {
        "pin": gr.update(value=say("pin.instead")),
        "unpin": gr.update(visible=True),
        "pinned": gr.update(value=html(pin, session), visible=True),
    } | {PREFIX + name: gr.update(value=state, visible=True) for name, state in states.items()}


def html(pin: Pin, session: Session) -> str:
    """A sentence and a table: the pinned result, and the one shown now."""
    before, after = pin.report, session.shown
    rows = "".join(
        f'<tr><th scope="row">{say(name)}</th>'
        + "".join(f"<td>{escape(form(report))}</td>" for report in (before, after))
        + "</tr>"
        for name, form in _ROWS
    )
    return (
        f'<div class="section"><h3>{_caption(pin)}</h3>'
        f'<p class="finding">{escape(finding(before, after))}</p></div>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{say("pin.label")}">'
        '<table class="layers pinned"><thead><tr><th scope="col"></th>'
        f'<th scope="col">{_caption(pin)}</th><th scope="col">{say("pin.now")}</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def finding(before: Report, after: Report) -> str:
    """How the result shown differs from the pinned one, in attention and in bytes."""
    if before is after:
        return say("pin.same")
    old, new = findings.kl(before), findings.kl(after)
    factor = max(old, 1e-9) / max(new, 1e-9)
    if factor >= findings.ALIKE:
        said = say("pin.closer", factor=numbers.times(factor))
    elif factor <= 1 / findings.ALIKE:
        said = say("pin.further", factor=numbers.times(1 / factor))
    else:
        said = say("pin.alike")
    return say(
        "pin.finding",
        said=said,
        kl=f"{numbers.nats(old)} → {numbers.nats(new)}",
        bits=f"{before.bits_per_value:.2f} → {after.bits_per_value:.2f}",
    )


def _caption(pin: Pin) -> str:
    return say("pin.run", number=pin.number) if pin.number else say("pin.precomputed")


def _mark(session: Session, pin: Pin) -> tuple[int, int]:
    """The selection, where the pinned model has that head; the first head otherwise."""
    layer, head = session.selected
    model = pin.report.model
    return (layer, head) if layer < model.layers and head < model.query_heads else (0, 0)


def _setting(report: Report) -> str:
    names = ["bits", "centering"]
    names += [name for name in wording.changed(_DEFAULT, report.config) if name not in names]
    return wording.setting(report.config, names)


def _text(report: Report) -> str:
    text = heard("name", report.text.name)
    return say("text.read", tokens=counted("tokens", report.tokens), text=text)


def _nats(value: float) -> str:
    return say("number.nats", value=numbers.nats(value))


_ROWS = (
    ("metric.model", lambda report: report.model.name),
    ("metric.text", _text),
    ("metric.setting", _setting),
    (
        "headline.mib",
        lambda report: f"{numbers.mib(report.before_bytes)} → {numbers.mib(report.after.total)}",
    ),
    ("metric.smaller", lambda report: f"{report.ratio:.2f}×"),
    ("metric.bits_per_value", lambda report: f"{report.bits_per_value:.2f}"),
    ("pin.kl_mean", lambda report: _nats(findings.kl(report))),
    (
        "pin.kl_worst",
        lambda report: _nats(float(report.grid("attention_kl").max())),
    ),
    (
        "pin.top1",
        lambda report: numbers.percent(float(report.grid("top1").mean())),
    ),
    ("metric.key_cosine", lambda report: numbers.cosine(float(report.grid("key_cosine").mean()))),
)
