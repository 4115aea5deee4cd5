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
from turbo_kv.ui.document import document
from turbo_kv.ui.export_actions import ExportActions
from turbo_kv.ui.gate import middleware
from turbo_kv.ui.generate_actions import GenerateActions
from turbo_kv.ui.language import LANGUAGES, say, speaking, speaks, spoken
from turbo_kv.ui.learn_actions import LearnActions
from turbo_kv.ui.lessons.lesson import Scene
from turbo_kv.ui.theme import THEME, css

LAUNCH = {
    "footer_links": ["api", "settings"],
    "share": False,
    "ssr_mode": False,  # a page of two languages, and a head of our own
    "run_history": False,
    "enable_monitoring": False,
    "max_file_size": "1mb",
    "show_error": False,
}


def build(
    actions: Actions, stored: precomputed.Precomputed, saved: sample.Sample, host: limits.Limits
) -> gr.Blocks:
    """The page in every language, on a stored result and a saved sample; the API beside the first.

    Each language is a page of its own, with all its events: a visitor's first paint is whole, and
    nothing is translated in the browser.
    """
    first, *others = LANGUAGES
    demo = gr.Blocks(title="turbo_kv", analytics_enabled=False, delete_cache=(3600, 3600))
    with demo, speaking(first):
        Api(host, actions.captures).connect()  # first, so that no event of the page takes its names
        _page(demo, actions, stored, saved, host)
    for language in others:
        with demo.route(LANGUAGES[language], language), speaking(language):
            _page(demo, actions, stored, saved, host)
    for event in demo.fns.values():
        if event.page and event.fn is not None:
            event.fn = speaks(event.page, event.fn)
    return demo


def _page(
    demo: gr.Blocks,
    actions: Actions,
    stored: precomputed.Precomputed,
    saved: sample.Sample,
    host: limits.Limits,
) -> None:
    """The whole page in the language at hand."""
    session = stored.session
    claim = say("page.claim")
    gr.HTML(f'{_languages()}<h1>turbo_kv</h1><p class="claim">{claim}</p>', elem_id="header")
    page: dict[str, gr.Component] = {"session": gr.State(time_to_live=3600)}
    with gr.Row(elem_id="top"):
        page |= overview.build(session, _ready(stored.stamp))
        page |= form.build(session.request, host)
    with gr.Tabs(elem_id="tabs") as tabs:
        page |= run_tab.build(session, stored.maps[session.config, *session.selected])
        generating = generate_tab.build(saved, host)
        points = compared.read()
        comparing = compare_tab.build(session, points)
        planning = plan_tab.build()
        learning = learn_tab.build(Scene(session, stored.lessons))
    measured.build(measured.read())
    _events(page, actions)
    linked = _exports(demo, page, ExportActions(host, stored, actions.captures))
    generate_events.connect(page | generating, GenerateActions(host, actions.captures))
    compare_tab.connect(page | comparing, CompareActions(actions.captures, stored, points))
    plan_tab.connect(page | planning)
    learn = LearnActions(stored, actions.captures)
    learn_events.connect(linked, tabs, page | learning, learn)


def _languages() -> str:
    """A link to the page in each other language."""
    links = "".join(
        f'<a href="?lang={code}" lang="{code}" hreflang="{code}">{name}</a>'
        for code, name in LANGUAGES.items()
        if code != spoken()
    )
    return f'<p class="languages">{links}</p>'


def _ready(stamp: dict[str, Any]) -> str:
    made = {"date": stamp["date"][:10], "torch": stamp["torch"], "python": stamp["python"]}
    return say("page.ready", made=say("page.made", **made))


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
    # Once the server has confirmed the cancel, which Gradio reports as a failed run: earlier, a
    # last step could overwrite what Stop says, and the cancel could take the next run along.
    page["stop"].click(None, cancels=[running])
    running.failure(
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


def _exports(
    demo: gr.Blocks, page: dict[str, gr.Component], actions: ExportActions
) -> gr.events.Dependency:
    """Wire downloads and links; returns the event after which a link's settings are in the form."""
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
    return demo.load(
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
        app_kwargs={"middleware": [*document(), *door]},
        state_session_capacity=host.sessions,
        **LAUNCH | options,
    )
    return demo
