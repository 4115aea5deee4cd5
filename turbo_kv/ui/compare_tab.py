"""Tab Compare: every way to store the same reading, size against damage, two of them by layer.

`render` draws the points there are; measuring them is compare_actions' business.
"""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from turbo_kv.measure.methods import methods, name
from turbo_kv.measure.point import Point
from turbo_kv.ui import compare_views, compare_words, downloads, status
from turbo_kv.ui.compared import Compared, points
from turbo_kv.ui.language import counted, heard, say
from turbo_kv.ui.session import Session

METHODS = methods()
FIELDS = ("methods", "first", "second")
OUTPUTS = (
    *("session", "compare", "compare_stop", "compare_status"),
    *("compare_finding", "compare_plot", "compare_layers", "compare_table", "methods_message"),
)
PICKED = ("4 bits, centring: off", "3 bits")
FILES = ("methods.json", "methods.csv", "pareto.svg", "pareto.png")


def build(session: Session, stored: Compared) -> dict[str, gr.Component]:
    """The tab's components by name, filled with the stored points."""
    page: dict[str, gr.Component] = {}
    chosen = [name(config) for config in stored.points if name(config) in METHODS]
    first = render(session, stored, chosen, *PICKED)
    with gr.Tab(say("tab.compare"), id="compare"):
        page["compare_finding"] = gr.HTML(first["compare_finding"], elem_id="compare-finding")
        page["compare_plot"] = gr.HTML(first["compare_plot"], elem_id="compare-plot")
        page["methods"] = gr.CheckboxGroup(
            _named(),
            value=chosen,
            label=say("compare.methods"),
            info=say("compare.methods_info"),
            elem_id="methods",
        )
        page["methods_message"] = gr.HTML("", elem_id="methods-message")
        with gr.Row():
            page["compare"] = gr.Button(
                say("tab.compare"), variant="primary", elem_id="compare", min_width=120
            )
            page["compare_stop"] = gr.Button(
                say("form.stop"),
                variant="stop",
                elem_id="compare-stop",
                min_width=80,
                interactive=False,
            )
        page["compare_status"] = gr.HTML(
            status.html(status.READY, say("compare.ready")), elem_id="compare-status"
        )
        with gr.Row():
            for field, value in zip(("first", "second"), PICKED):
                page[field] = gr.Dropdown(
                    _named(),
                    value=value,
                    label=say(f"compare.{field}"),
                    min_width=200,
                    elem_id=f"pick-{field}",
                )
        page["compare_layers"] = gr.HTML(first["compare_layers"], elem_id="compare-layers")
        page["compare_table"] = gr.HTML(
            first["compare_table"],
            js_on_load=(Path(__file__).parent / "sort.js").read_text(),
            elem_id="compare-table",
        )
        page["compare_files"] = downloads.component(FILES, "compare-files")
    return page


def _named() -> list[tuple[str, str]]:
    return [(compare_words.called(method), method) for method in METHODS]


def render(
    session: Session, stored: Compared, chosen: Sequence[str], first: str, second: str
) -> dict[str, Any]:
    """Everything drawn from points; methods not measured yet are left out."""
    shown = measured(session, stored, chosen)
    by_config = {point.config: point for point in shown}
    said = [compare_words.worth(by_config), compare_words.centring(by_config)]
    sentences = "".join(f'<p class="finding">{escape(text)}</p>' for text in said if text)
    return {
        "compare_finding": (
            f'<div class="section"><h3>{say("compare.title")}</h3>{sentences}{_read(session)}</div>'
        ),
        "compare_plot": compare_views.plot(shown, (first, second), said[0]),
        "compare_layers": _layers(points(session, stored), first, second),
        "compare_table": (
            f'<div class="section"><h3>{say("compare.every")}</h3></div>'
            + compare_views.table(shown)
        ),
    }


def measured(session: Session, stored: Compared, chosen: Sequence[str]) -> list[Point]:
    """The points there are of the chosen methods, in the methods' order."""
    known = points(session, stored)
    return [
        known[config] for method, config in METHODS.items() if method in chosen and config in known
    ]


def _read(session: Session) -> str:
    report = session.shown
    own = session.points or set(session.runs) - session.stored
    made = "mixed" if session.precomputed and own else "before" if session.precomputed else "here"
    text = heard("name", report.text.name)
    said = say(
        "compare.read",
        model=report.model.name,
        text=say("text.read", tokens=counted("tokens", report.tokens), text=text),
        made=say(f"compare.made.{made}"),
        queries=report.queries,
    )
    return f'<p class="lead">{escape(said)}</p>'


def _layers(known: dict, first: str, second: str) -> str:
    pair = [known.get(METHODS.get(method)) for method in (first, second)]
    missing = [method for method, point in zip((first, second), pair) if point is None]
    if missing:
        names = say("list.and").join(map(compare_words.called, missing))
        said = say("compare.missing", names=names)
        return f'<p class="lead">{escape(said)}</p>'
    sentence = escape(compare_words.pair(*pair))
    return f'<p class="finding">{sentence}</p>' + compare_views.layers(*pair)


def connect(page: dict[str, gr.Component], actions: Any) -> None:
    """Wire the tab, and redraw it whenever another result is shown above."""
    outputs = [page[name] for name in OUTPUTS]
    inputs = [page["session"], *(page[name] for name in FIELDS)]

    def named(updates: dict[str, Any]) -> dict[gr.Component, Any]:
        return {page[name]: value for name, value in updates.items()}

    def compare(*values: Any) -> Iterator[dict[gr.Component, Any]]:
        yield from map(named, actions.compare(*values))

    def draw(*values: Any) -> dict[gr.Component, Any]:
        return named(actions.draw(*values))

    def download(
        session: Any, chosen: list[str], first: str, second: str, event: gr.SelectData
    ) -> dict[gr.Component, Any]:
        return named(actions.download(session, chosen, first, second, event))

    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    running = page["compare"].click(
        compare,
        inputs,
        outputs,
        trigger_mode="once",
        concurrency_id="model",
        concurrency_limit=1,
        **quiet,
    )
    # Once the cancel is confirmed, as for Run.
    page["compare_stop"].click(None, cancels=[running])
    running.failure(lambda: named(actions.stop()), None, outputs, queue=False, **quiet)
    gr.on(
        [page["verdict"].change, *(page[name].input for name in FIELDS)],
        draw,
        inputs,
        outputs,
        queue=False,
        trigger_mode="always_last",
        **quiet,
    )
    page["compare_files"].select(download, inputs, page["compare_files"], **quiet)
