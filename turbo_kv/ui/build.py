"""The page: run bar, headline and tabs in order, and which action each event starts.

A tab is one module with `build`; its components join the page under their names.
"""

import threading
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import gradio as gr

from turbo_kv.ui import (
    compare_tab,
    compared,
    engine,
    form,
    generate_events,
    generate_tab,
    head,
    learn_events,
    learn_tab,
    limits,
    measured,
    overview,
    plan_tab,
    precomputed,
    run_tab,
    sample,
)
from turbo_kv.ui.actions import Actions
from turbo_kv.ui.api import Api
from turbo_kv.ui.compare_actions import CompareActions
from turbo_kv.ui.export_actions import ExportActions
from turbo_kv.ui.gate import middleware
from turbo_kv.ui.generate_actions import GenerateActions
from turbo_kv.ui.learn_actions import LearnActions
from turbo_kv.ui.lessons.lesson import Scene
from turbo_kv.ui.theme import THEME, css

READY = "Measured beforehand, {made}. Flip a switch, or press Run to measure here."
LAUNCH = {
    "footer_links": ["api", "settings"],
    "share": False,
    "run_history": False,
    "enable_monitoring": False,
    "max_file_size": "1mb",
    "show_error": False,
}


def build(
    actions: Actions, stored: precomputed.Precomputed, saved: sample.Sample, host: limits.Limits
) -> gr.Blocks:
    """The page on a stored result and a saved sample."""
    session = stored.session
    with gr.Blocks(title="turbo_kv", analytics_enabled=False, delete_cache=(3600, 3600)) as demo:
        gr.HTML(f'<h1>turbo_kv</h1><p class="claim">{overview.CLAIM}</p>', elem_id="header")
        page: dict[str, gr.Component] = {"session": gr.State(time_to_live=3600)}
        with gr.Row(elem_id="top"):
            page |= overview.build(session, READY.format(made=stored.made))
            page |= form.build(session.request, host)
        with gr.Tabs(elem_id="tabs") as tabs:
            page |= run_tab.build(session, stored.maps[session.config, *session.selected])
            generating = generate_tab.build(saved, host)
            points = compared.read()
            comparing = compare_tab.build(session, points)
            planning = plan_tab.build()
            learning = learn_tab.build(Scene(session, stored.lessons))
        measured.build(measured.read())
        Api(host, actions.captures).connect()
        _events(page, actions)
        _exports(demo, page, ExportActions(host, stored, actions.captures))
        generate_events.connect(page | generating, GenerateActions(host, actions.captures))
        compare_tab.connect(page | comparing, CompareActions(actions.captures, stored, points))
        plan_tab.connect(page | planning)
        learn = LearnActions(stored, actions.captures)
        learn_events.connect(demo, tabs, page | learning, learn)
    return demo


def _events(page: dict[str, gr.Component], actions: Actions) -> None:
    outputs = list(page.values())
    session = page["session"]

    def named(action: Callable[..., Any]) -> Callable[..., Any]:
        return _to_components(action, page)

    model = {"concurrency_id": "model", "concurrency_limit": 1, "show_progress": "hidden"}
    quick = {"concurrency_id": "quantize", "concurrency_limit": 2, "show_progress": "hidden"}
    running = page["run"].click(
        named(actions.run),
        [session, *(page[name] for name in form.FIELDS)],
        outputs,
        api_visibility="private",
        trigger_mode="once",
        **model,
    )
    # After the cancel: beside it, a last step of the run could overwrite what Stop says.
    page["stop"].click(None, cancels=[running]).then(
        named(actions.stop),
        [session],
        outputs,
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
    gr.on(
        [page[name].input for name in form.SWITCHES],
        named(actions.switch),
        [session, *(page[name] for name in form.SWITCHES)],
        outputs,
        trigger_mode="always_last",
        api_visibility="private",
        **quick,
    )
    for name, select in (
        ("key_grid", actions.select_kv),
        ("value_grid", actions.select_kv),
        ("attention_grid", actions.select_query),
    ):
        page[name].select(
            named(select),
            [session],
            outputs,
            trigger_mode="always_last",
            api_visibility="private",
            **quick,
        )
    for name, keep in (("pin", actions.pin), ("unpin", actions.unpin)):
        page[name].click(named(keep), [session], outputs, api_visibility="private", **quick)
    page["source"].change(
        lambda source: gr.update(visible=source == limits.OWN_TEXT),
        page["source"],
        page["text"],
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
    page["file"].upload(
        named(actions.upload),
        page["file"],
        outputs,
        show_progress="hidden",
        api_visibility="private",
    )


def _exports(demo: gr.Blocks, page: dict[str, gr.Component], actions: ExportActions) -> None:
    outputs = list(page.values())

    def download(session: Any, event: gr.SelectData) -> dict[gr.Component, Any]:
        return {page[name]: value for name, value in actions.download(session, event).items()}

    def open_link(request: gr.Request) -> dict[gr.Component, Any]:
        updates = actions.open_link(request.query_params) or {"status": gr.skip()}
        return {page[name]: value for name, value in updates.items()}

    page["export"].select(
        download,
        page["session"],
        page["export"],
        show_progress="hidden",
        api_visibility="private",
        concurrency_id="quantize",
        concurrency_limit=2,
    )
    demo.load(
        open_link, None, outputs, queue=False, show_progress="hidden", api_visibility="private"
    )


def _to_components(action: Callable[..., Any], page: dict[str, gr.Component]) -> Callable[..., Any]:
    """The action as a generator of its updates, keyed by component."""

    def convert(updates: dict[str, Any]) -> dict[gr.Component, Any]:
        return {page[name]: value for name, value in updates.items()}

    @wraps(action)
    def stream(*arguments: Any) -> Iterator[dict[gr.Component, Any]]:
        result = action(*arguments)
        if isinstance(result, dict):
            yield convert(result)
        else:
            yield from map(convert, result)

    return stream


def launch(**options: Any) -> gr.Blocks:
    """Serve the page, and meanwhile import torch and read the default text in the background."""
    host, stored = limits.here(), precomputed.read()
    actions = Actions(host, stored)
    demo = build(actions, stored, sample.read(), host)
    threading.Thread(
        target=engine.warm, args=(actions.captures, stored.session.request), daemon=True
    ).start()
    door = middleware(host.per_minute, host.all_per_minute, behind_proxy=limits.is_hosted())
    # Not open: else whoever posts directly skips the queue, and with it one model at a time.
    demo.queue(max_size=limits.QUEUE, api_open=False).launch(
        theme=THEME,
        css=css(),
        head=head.html(),
        app_kwargs={"middleware": door},
        state_session_capacity=host.sessions,
        **LAUNCH | options,
    )
    return demo
