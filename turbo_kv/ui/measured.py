"""The panel under the tabs: what was claimed of such caches, what is measured, and how to see it.

Shows the claims that `python -m turbo_kv bench family` wrote; measures nothing.
"""

import json
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from turbo_kv.ui.language import heard, say
from turbo_kv.ui.precomputed import RESULTS
from turbo_kv.ui.wording import listed

NAME = "claims"
_COLUMNS = ("claim", "ours", "how")


def read(folder: Path = RESULTS) -> dict[str, Any]:
    """The stored claims. Raises FileNotFoundError when they were never made."""
    return json.loads((folder / f"{NAME}.json").read_text(encoding="utf-8"))


def build(stored: dict[str, Any]) -> None:
    """A closed panel with the table."""
    with gr.Accordion(say("claims.title"), open=False, elem_id="measured"):
        gr.HTML(html(stored))


def html(stored: dict[str, Any]) -> str:
    """The claims as a table that scrolls inside itself, and what they rest on."""
    names = [say(f"claims.{name}") for name in (*_COLUMNS, "command")]
    heads = "".join(f'<th scope="col">{name}</th>' for name in names)
    rows = "".join(_row(claim) for claim in stored["claims"])
    return (
        f'<p class="finding">{escape(_finding(stored))}</p>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{say("claims.title")}">'
        f'<table class="layers claims"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'
        "</div>"
    )


def _finding(stored: dict[str, Any]) -> str:
    claims = stored["claims"]
    measured = sum(claim["how"] == "measured" for claim in claims)
    machines = listed(
        [f"{name} ({made['date'][:10]})" for name, made in stored["machines"].items()]
    )
    return say(
        "claims.finding",
        measured=measured,
        claims=len(claims),
        machines=machines or say("claims.no_machine"),
    )


def _row(claim: dict[str, str]) -> str:
    first, *others = (escape(_heard(claim[name])) for name in _COLUMNS)
    cells = "".join(f"<td>{cell}</td>" for cell in others)
    command = f"<td><code>python -m turbo_kv {escape(claim['command'])}</code></td>"
    return f'<tr><th scope="row">{first}</th>{cells}{command}</tr>'


def _heard(text: str) -> str:
    """A cell, which may hold several findings."""
    return say("list.semicolon").join(heard("claim", part) for part in text.split("; "))
