"""The section "Take it with you": files of the shown result, and how to repeat it elsewhere.

Knows buttons, links and which file a click asks for, not how a file is made. Texts reach the
browser's template escaped; none of them comes from a visitor.
"""

from html import escape
from typing import Any

import gradio as gr

from turbo_kv.ui import downloads, recipe
from turbo_kv.ui.downloads import button
from turbo_kv.ui.language import heard, say
from turbo_kv.ui.session import Session

_FIGURES = {
    "memory": "memory.title",
    "key-cosine": "metric.key_cosine",
    "value-cosine": "metric.value_cosine",
    "attention-kl": "metric.attention_kl",
    "attention-map": "export.map",
}
"""Names of the figures that can be had, by their files."""


def _buttons() -> str:
    reports = "".join(button(f"report.{form}", form.upper()) for form in ("json", "csv", "html"))
    figures = "".join(
        f"<span>{say(label)} {button(f'{name}.png', 'PNG')}{button(f'{name}.svg', 'SVG')}</span>"
        for name, label in _FIGURES.items()
    )
    return (
        f'<p class="files"><b>{say("export.report")}</b><span>{reports}</span></p>'
        f'<p class="files"><b>{say("export.figures")}</b>{figures}</p>'
    )


def _copy(source: str) -> str:
    """The button that copies the element of this id."""
    name = say(f"export.copy.{source}")
    return (
        f'<button type="button" data-copy="{source}" aria-label="{name}">{say("export.copy.it")}'
        "</button>"
    )


def _template() -> str:
    return f"""<div class="export"><h3>{say("export.title")}</h3>{_buttons()}
{downloads.said()}
<div class="recipe"><h4>{say("export.command")} {_copy("as-command")}</h4>
<pre id="as-command" tabindex="0">${{value.command}}</pre></div>
<div class="recipe"><h4>{say("export.python")} {_copy("as-python")}</h4>
<pre id="as-python" tabindex="0">${{value.python}}</pre></div>
<p>${{value.note}}</p>
<p class="recipe">{say("export.link")}
<a id="as-link" href="${{value.link}}">${{value.link}}</a>
{_copy("as-link")}</p></div>"""


def component(session: Session) -> gr.HTML:
    """The section; its `select` event carries a file's name as `value`."""
    return gr.HTML(
        render(session),
        html_template=_template(),
        js_on_load=downloads.SCRIPT,
        elem_id="export",
    )


def render(session: Session) -> dict[str, Any]:
    """The recipes of the shown result, and no file."""
    own = session.request.text is not None
    return {
        "command": escape(recipe.command(session.request), quote=False),
        "python": escape(recipe.python(session.request), quote=False),
        "link": escape(recipe.link(session)),
        "note": escape(recipe.note(session)) if own else "",
    } | downloads.EMPTY


def with_file(session: Session, name: str, content: bytes) -> dict[str, Any]:
    """The section handing over one file."""
    return render(session) | downloads.with_file(name, content)


def refused(session: Session, error: ValueError) -> dict[str, Any]:
    """The section saying why there is no file."""
    return render(session) | {
        "said": escape(say("export.refused", error=heard("error", str(error))))
    }
