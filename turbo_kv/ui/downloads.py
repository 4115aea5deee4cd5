"""Buttons that hand over files, and what they hand over: the browser saves, the server keeps none.

The one place that knows how a file travels; downloads.js is its other half. Knows no file.
"""

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from pathlib import Path
from time import time_ns
from typing import Any

import gradio as gr

from turbo_kv.ui.language import say

SCRIPT = (Path(__file__).parent / "downloads.js").read_text()
TYPES = {
    "json": "application/json",
    "csv": "text/csv",
    "html": "text/html",
    "png": "image/png",
    "svg": "image/svg+xml",
}
EMPTY: dict[str, Any] = {"said": "", "file": None}
INK, PAPER = "#0f172a", "#ffffff"


def button(file: str, label: str) -> str:
    """A button that asks for a file by its name."""
    name = say("export.download", file=file)
    return f'<button type="button" data-file="{file}" aria-label="{name}">{label}</button>'


def said() -> str:
    """Where a template says what became of a click; the script's own words travel along."""
    return (
        f'<p role="status" aria-live="polite" class="export-said" data-copied='
        f'"{say("export.copied")}" data-selected="{say("export.selected")}">${{value.said}}</p>'
    )


def component(files: Sequence[str], elem_id: str) -> gr.HTML:
    """A row of buttons; its `select` event carries a file's name as `value`."""
    row = f"<b>{say('export.files')}</b>" + "".join(button(file, file) for file in files)
    return gr.HTML(
        EMPTY,
        html_template=f'<div class="export"><p class="files">{row}</p>{said()}</div>',
        js_on_load=SCRIPT,
        elem_id=elem_id,
    )


def with_file(name: str, content: bytes) -> dict[str, Any]:
    """The state that hands over one file; `at` tells two downloads of the same file apart.

    A `.png` may arrive as the SVG that the browser is to paint.
    """
    is_drawing = content.startswith(b"<svg")
    file = {
        "name": f"turbo_kv-{name}",
        "type": TYPES["svg" if is_drawing else name.rsplit(".", maxsplit=1)[-1]],
        "data": b64encode(content).decode(),
    }
    size = f"{len(content) / 1000:,.0f}"
    saved = escape(say("export.saved", file=file["name"], size=size))
    return {"said": saved, "file": file, "at": time_ns()}


def standalone(html: str) -> str:
    """The SVG inside a piece of the page, dark on white wherever it is opened."""
    start, end = html.index("<svg"), html.index("</svg>") + len("</svg>")
    style = f'style="color:{INK};background:{PAPER}" '
    return html[start:end].replace("<svg ", f"<svg {style}", 1)
