"""Which action each event of the tab Generate starts, and which components it may change."""

from collections.abc import Iterator
from functools import wraps
from typing import Any

import gradio as gr

from turbo_kv.measure.prompts import EXAMPLES
from turbo_kv.ui.generate_actions import GenerateActions
from turbo_kv.ui.generate_tab import FIELDS, OUTPUTS


def connect(page: dict[str, gr.Component], actions: GenerateActions) -> None:
    """Wire the tab's components, and the run bar's that it reads, within the Blocks at hand."""
    outputs = [page[name] for name in OUTPUTS]

    def named(updates: dict[str, Any]) -> dict[gr.Component, Any]:
        return {page[name]: value for name, value in updates.items()}

    @wraps(actions.generate)
    def generate(*values: Any) -> Iterator[dict[gr.Component, Any]]:
        yield from map(named, actions.generate(*values))

    # The queue may hold a visitor back, so the click is answered first.
    waiting = page["generate"].click(
        lambda: named(actions.wait()),
        None,
        outputs,
        trigger_mode="once",
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
    generating = waiting.then(
        generate,
        [page[name] for name in FIELDS],
        outputs,
        api_visibility="private",
        concurrency_id="model",
        concurrency_limit=1,
        show_progress="hidden",
    )
    # A late cancel takes the visitor's next run along, so Generate comes back within reach only
    # once the server has confirmed it: that is when Gradio reports the run as failed.
    page["generate_stop"].click(None, cancels=[generating])
    generating.failure(
        lambda: named(actions.stop()),
        None,
        outputs,
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
    page["example"].input(
        EXAMPLES.get,
        page["example"],
        page["prompt"],
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
