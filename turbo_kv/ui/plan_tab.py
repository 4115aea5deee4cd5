"""Tab Plan: will it fit? Every size of Qwen2.5 at a context, a batch and a device's memory.

Nothing is loaded or measured: bytes follow from published shapes and from how the run bar says to
store them. `plan` answers a change of any field; `connect` wires it.
"""

import json
from html import escape
from typing import Any

import gradio as gr

from turbo_kv.figures.plan import Bars
from turbo_kv.figures.plan import plan as draw
from turbo_kv.figures.save import save
from turbo_kv.measure.planner import GIB, PlanRequest, plan_sizes
from turbo_kv.models.catalog import SIZES
from turbo_kv.ui import downloads, form, limits, plan_chart, plan_words, status
from turbo_kv.ui.language import say, speaking

OWN = ("plan_context", "plan_batch", "plan_memory", "plan_model")
FIELDS = (*form.SWITCHES, *OWN)
MESSAGES = tuple(f"{name}_message" for name in OWN[:3])
FILES = ("plan.json", "plan.png", "plan.svg")
OUTPUTS = ("plan_finding", "plan_chart", *MESSAGES)
FOCUS = "Qwen2.5-7B"


def build() -> dict[str, gr.Component]:
    """The tab's components by name, filled with a plan for a common card."""
    page: dict[str, gr.Component] = {}
    request = PlanRequest(batch=8)
    first = render(request, FOCUS)
    with gr.Tab(say("tab.plan"), id="plan"):
        gr.HTML(f'<p class="lead">{say("plan.lead")}</p>')
        with gr.Row(elem_id="plan-fields"):
            page["plan_context"] = gr.Slider(
                1024,
                limits.LONGEST_PLAN,
                value=request.tokens,
                step=1024,
                label=say("form.context"),
                min_width=260,
                elem_id="plan-context",
            )
            page["plan_batch"] = gr.Slider(
                1,
                limits.LARGEST_BATCH,
                value=request.batch,
                step=1,
                label=say("plan.batch"),
                min_width=260,
                elem_id="plan-batch",
            )
            page["plan_memory"] = gr.Number(
                request.memory / GIB,
                label=say("plan.memory"),
                min_width=140,
                elem_id="plan-memory",
            )
            page["plan_model"] = gr.Dropdown(
                [card.name for card in SIZES],
                value=FOCUS,
                label=say("plan.model"),
                min_width=140,
                elem_id="plan-model",
            )
        for name in MESSAGES:
            page[name] = gr.HTML("", elem_id=name.replace("_", "-"))
        page["plan_finding"] = gr.HTML(first["plan_finding"], elem_id="plan-finding")
        page["plan_chart"] = gr.HTML(first["plan_chart"], elem_id="plan-chart")
        page["plan_files"] = downloads.component(FILES, "plan-files")
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
        "plan_finding": f'<div class="section"><h3>{say("plan.title")}</h3>{findings}</div>',
        "plan_chart": (
            plan_chart.html(plans, request)
            + f'<div class="sums"><h4>{say("plan.sums", model=chosen.card.name)}</h4>{sums}</div>'
            + plan_chart.table(plans)
        ),
    }


def make(name: str, request: PlanRequest) -> bytes:
    """One of FILES. Raises ValueError for any other name."""
    if name not in FILES:
        raise ValueError(f"there is no file {name!r}; choose one of {', '.join(FILES)}")
    plans = plan_sizes(request)
    if name == "plan.json":
        data = {"memory_bytes": request.memory, "config": request.config.to_dict()}
        data["models"] = [each.to_dict() for each in plans]
        return json.dumps(data, indent=1).encode()
    bars = [
        Bars(each.card.name, each.card.weights_bytes, each.before_bytes, each.after.total)
        for each in plans
    ]
    with speaking("en"):  # files are read by anybody
        figure = draw(bars, request.memory, plan_chart.BEYOND, plan_words.fitting(plans, request))
    return save(figure, name.rsplit(".", maxsplit=1)[-1])


def download(*values: Any) -> dict[str, Any]:
    """Hand over the plan of the fields as the file that the event, given last, names."""
    *given, event = values
    try:
        content = make(str(event.value), limits.planning(dict(zip(FIELDS, given))))
    except ValueError as error:
        return {"plan_files": downloads.EMPTY | {"said": escape(say("plan.refused", error=error))}}
    return {"plan_files": downloads.with_file(str(event.value), content)}


def connect(page: dict[str, gr.Component]) -> None:
    """Answer every change at once, of a slider when it is let go; nothing waits for the model."""

    def named(*values: Any) -> dict[gr.Component, str]:
        return {page[name]: value for name, value in plan(*values).items()}

    gr.on(
        [
            page[name].release if isinstance(page[name], gr.Slider) else page[name].change
            for name in FIELDS
        ],
        named,
        [page[name] for name in FIELDS],
        [page[name] for name in OUTPUTS],
        queue=False,
        trigger_mode="always_last",
        show_progress="hidden",
        api_visibility="private",
    )

    def handed(event: gr.SelectData, *values: Any) -> dict[gr.Component, Any]:
        return {page[name]: value for name, value in download(*values, event).items()}

    page["plan_files"].select(
        handed,
        [page[name] for name in FIELDS],
        page["plan_files"],
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
