"""Which action each event of the tab Learn starts, and which components it may change."""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import gradio as gr

from turbo_kv.ui.language import say
from turbo_kv.ui.learn_actions import LearnActions

_ADDRESS = """() => {
  const open = document.querySelector('#tabs [role=tab][aria-selected=true]');
  const step = document.querySelector('#steps [aria-current]')?.dataset.step ?? 0;
  const address = new URL(window.location);
  address.searchParams.delete('lesson');
  if (open?.textContent.trim() === '%s') address.searchParams.set('lesson', Number(step) + 1);
  window.history.replaceState(null, '', address);
}"""
"""The address names the lesson in view, and none once its tab, called %s, is left."""


def connect(
    linked: gr.events.Dependency,
    tabs: gr.Tabs,
    page: dict[str, gr.Component],
    actions: LearnActions,
) -> None:
    """Wire the tab's components, and the session they follow, within the Blocks at hand.

    linked: the event that puts a link's settings into the form; its lesson opens after it.
    """
    page = page | {"tabs": tabs}
    names = ("steps", "learn_status", "lesson", "predict", "check", "turn", "why")
    names += ("lesson_finding", "lesson_figure", "back", "next", "walk")
    outputs = [page[name] for name in names]
    inputs = [page["session"], page["walk"]]
    options = {
        "concurrency_id": "learn",
        "concurrency_limit": 2,
        "show_progress": "hidden",
        "api_visibility": "private",
    }

    def named(action: Callable[..., Iterator[dict]]) -> Callable[..., Iterator[dict]]:
        @wraps(action)
        def stream(*arguments: Any) -> Iterator[dict[gr.Component, Any]]:
            for updates in action(*arguments):
                yield {page[name]: value for name, value in updates.items()}

        return stream

    latest = {"trigger_mode": "always_last"} | options
    page["predict"].input(named(actions.answer), [*inputs, page["predict"]], outputs, **latest)
    page["turn"].input(named(actions.turn), [*inputs, page["turn"]], outputs, **latest)
    page["steps"].select(named(actions.pick), inputs, outputs, **latest)
    page["back"].click(named(actions.back), inputs, outputs, **latest)
    page["next"].click(named(actions.forward), inputs, outputs, **latest)
    tabs.select(named(actions.enter), inputs, outputs, **latest)
    tabs.select(None, None, None, js=_ADDRESS % say("tab.learn"))
    # An update of a tab that was never opened would tear it, even one that changes nothing. What
    # happens elsewhere therefore says what is due, and only that draws the tab.
    due = gr.State()
    linked.then(actions.arrive, None, [due, page["walk"], tabs], **options)
    page["session"].change(actions.follow, inputs, due, **latest)
    due.change(named(actions.draw), [*inputs, due], outputs, **latest)
