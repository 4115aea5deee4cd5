"""Which action each event of the tab Generate starts, and which components it may change."""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import gradio as gr

from turbo_kv.measure.prompts import EXAMPLES
from turbo_kv.ui.generate_actions import GenerateActions
from turbo_kv.ui.generate_tab import FIELDS, OUTPUTS


def connect(page: dict[str, gr.Component], actions: GenerateActions) -> None:
    """Wire the tab's components, and the run bar's that it reads, within the Blocks at hand."""
    outputs = [page[name] for name in OUTPUTS]

    def streamed(action: Callable[..., Iterator[dict[str, Any]]]) -> Callable[..., Any]:
        @wraps(action)
        def stream(*values: Any) -> Iterator[dict[gr.Component, Any]]:
            for updates in action(*values):
                yield {page[name]: value for name, value in updates.items()}

        return stream

    generating = page["generate"].click(
        streamed(actions.generate),
        [page[name] for name in FIELDS],
        outputs,
        api_name="generate",
        trigger_mode="once",
        concurrency_id="model",
        concurrency_limit=1,
        show_progress="hidden",
    )
    page["generate_stop"].click(
        streamed(lambda: iter([actions.stop()])),
        None,
        outputs,
        cancels=[generating],
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
