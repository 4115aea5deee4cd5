"""The panel under the tabs: what was claimed of such caches, what is measured, and how to see it.

Shows the claims that `python -m turbo_kv bench family` wrote; measures nothing.
"""

import json
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from turbo_kv.ui.precomputed import RESULTS

NAME = "claims"
TITLE = "Claimed and measured"
_COLUMNS = {"claim": "Claimed", "ours": "Found", "how": "How we know"}


def read(folder: Path = RESULTS) -> dict[str, Any]:
    """The stored claims. Raises FileNotFoundError when they were never made."""
    return json.loads((folder / f"{NAME}.json").read_text(encoding="utf-8"))


def build(stored: dict[str, Any]) -> None:
    """A closed panel with the table."""
    with gr.Accordion(TITLE, open=False, elem_id="measured"):
        gr.HTML(html(stored))


def html(stored: dict[str, Any]) -> str:
    """The claims as a table that scrolls inside itself, and what they rest on."""
    heads = "".join(f'<th scope="col">{name}</th>' for name in [*_COLUMNS.values(), "Command"])
    rows = "".join(_row(claim) for claim in stored["claims"])
    return (
        f'<p class="finding">{escape(_finding(stored))}</p>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{TITLE}">'
        f'<table class="layers claims"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'
        "</div>"
    )


def _finding(stored: dict[str, Any]) -> str:
    claims = stored["claims"]
    measured = sum(claim["how"] == "measured" for claim in claims)
    machines = " and ".join(
        f"{name} ({made['date'][:10]})" for name, made in stored["machines"].items()
    )
    return (
        f"{measured} of {len(claims)} claims are measured, on {machines or 'no machine yet'}. "
        "Random weights stand for a model's exact shapes: their bytes are real, and they have no "
        "quality."
    )


def _row(claim: dict[str, str]) -> str:
    first, *others = (escape(claim[name]) for name in _COLUMNS)
    cells = "".join(f"<td>{cell}</td>" for cell in others)
    command = f"<td><code>python -m turbo_kv {escape(claim['command'])}</code></td>"
    return f'<tr><th scope="row">{first}</th>{cells}{command}</tr>'
