"""Tab Plan: will it fit? Every size of Qwen2.5 at a context, a batch and a device's memory.

Nothing is loaded or measured: bytes follow from published shapes and from how the run bar says to
store them. `plan` answers a change of any field; `connect` wires it.
"""

from html import escape
from typing import Any

import gradio as gr

from turbo_kv.measure.planner import GIB, PlanRequest, plan_sizes
from turbo_kv.models.catalog import SIZES
from turbo_kv.ui import form, limits, plan_chart, plan_words, status

OWN = ("plan_context", "plan_batch", "plan_memory", "plan_model")
FIELDS = (*form.SWITCHES, *OWN)
MESSAGES = tuple(f"{name}_message" for name in OWN[:3])
OUTPUTS = ("plan_finding", "plan_chart", *MESSAGES)
FOCUS = "Qwen2.5-7B"
LEAD = (
    "Computed from published shapes and the switches above; nothing is loaded or measured. What a "
    "forward pass needs for a moment comes on top."
)


def build() -> dict[str, gr.Component]:
    """The tab's components by name, filled with a plan for a common card."""
    page: dict[str, gr.Component] = {}
    request = PlanRequest(batch=8)
    first = render(request, FOCUS)
    with gr.Tab("Plan", id="plan"):
        gr.HTML(f'<p class="lead">{LEAD}</p>')
        with gr.Row(elem_id="plan-fields"):
            page["plan_context"] = gr.Slider(
                1024,
                limits.LONGEST_PLAN,
                value=request.tokens,
                step=1024,
                label="Context, tokens",
                min_width=260,
                elem_id="plan-context",
            )
            page["plan_batch"] = gr.Slider(
                1,
                limits.LARGEST_BATCH,
                value=request.batch,
                step=1,
                label="Texts at once",
                min_width=260,
                elem_id="plan-batch",
            )
            page["plan_memory"] = gr.Number(
                request.memory / GIB,
                label="Device memory, GiB",
                min_width=140,
                elem_id="plan-memory",
            )
            page["plan_model"] = gr.Dropdown(
                [card.name for card in SIZES],
                value=FOCUS,
                label="Sum for",
                min_width=140,
                elem_id="plan-model",
            )
        for name in MESSAGES:
            page[name] = gr.HTML("", elem_id=name.replace("_", "-"))
        page["plan_finding"] = gr.HTML(first["plan_finding"], elem_id="plan-finding")
        page["plan_chart"] = gr.HTML(first["plan_chart"], elem_id="plan-chart")
    return page


def plan(*values: Any) -> dict[str, str]:
    """The fields' plan, or a message at the field that cannot be used."""
    given = dict(zip(FIELDS, values))
    cleared = dict.fromkeys(MESSAGES, "")
    try:
        request = limits.planning(given)
    except limits.FieldError as error:
        # The run bar tells of its own switches.
        own = f"{error.field}_message" in MESSAGES
        return cleared | ({f"{error.field}_message": status.alert(str(error))} if own else {})
    return cleared | render(request, given["plan_model"])


def render(request: PlanRequest, focus: str) -> dict[str, str]:
    """Findings, sums and chart; `focus` names the model whose sums are written out."""
    plans = plan_sizes(request)
    chosen = next((plan for plan in plans if plan.card.name == focus), plans[-1])
    said = (plan_words.fitting(plans, request), plan_words.longest(chosen, request))
    findings = "".join(f'<p class="finding">{escape(sentence)}</p>' for sentence in said)
    sums = "".join(f"<p>{escape(line)}</p>" for line in plan_words.formula(chosen, request))
    return {
        "plan_finding": f'<div class="section"><h3>Will it fit?</h3>{findings}</div>',
        "plan_chart": (
            plan_chart.html(plans, request)
            + f'<div class="sums"><h4>{escape(chosen.card.name)}, with its numbers</h4>{sums}</div>'
            + plan_chart.table(plans)
        ),
    }


def connect(page: dict[str, gr.Component]) -> None:
    """Answer every change at once; nothing waits for the model."""

    def named(*values: Any) -> dict[gr.Component, str]:
        return {page[name]: value for name, value in plan(*values).items()}

    gr.on(
        [page[name].change for name in FIELDS],
        named,
        [page[name] for name in FIELDS],
        [page[name] for name in OUTPUTS],
        queue=False,
        trigger_mode="always_last",
        show_progress="hidden",
        api_visibility="private",
    )
