"""The result as one HTML page that opens anywhere: figures inside, no script, no request, on white.

The same sentences and tables as on the page, the full report in JSON at its end.
"""

from html import escape
from typing import Any

from matplotlib.figure import Figure

from turbo_kv.figures.save import inline
from turbo_kv.ui import findings, head_maps, headline, layer_table, recipe, theme, verdict
from turbo_kv.ui.engine import Map
from turbo_kv.ui.language import say
from turbo_kv.ui.session import Session

_STYLE = """
:root { color-scheme: light; --body-text-color: #0f172a; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68em; margin: 0 auto; padding: 1em;
  color: var(--body-text-color); background: #f8fafc; }
.figure { background: #fff; border-radius: 8px; padding: .5em; overflow-x: auto; }
.figure svg { max-width: 100%; height: auto; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--panel); padding: .75em; }
"""
FIGURES = {
    "memory": "memory.title",
    "key-cosine": "grid.title.key_grid",
    "value-cosine": "grid.title.value_grid",
    "attention-kl": "grid.title.attention_grid",
}
"""Titles by the names of figures."""


def html(
    session: Session,
    figures: dict[str, Figure],
    measured: Map | None,
    data: str,
    stamp: dict[str, Any],
) -> str:
    """The page. figures: by the names of FIGURES. data: the report as JSON text."""
    report = session.shown
    said = {
        "memory": findings.memory(report),
        "key-cosine": findings.cosines(report, "key_cosine"),
        "value-cosine": findings.cosines(report, "value_cosine"),
        "attention-kl": findings.attention(report),
    }
    sections = [
        f"<h2>{escape(say(title))}</h2><p>{escape(said[name])}</p>"
        f'<div class="figure" role="img" aria-label="{escape(said[name])}">'
        f"{inline(figures[name])}</div>"
        for name, title in FIGURES.items()
    ]
    if measured is not None:
        layer, head = session.selected
        pictures = head_maps.figures(measured, layer, head, report.bits_per_value)
        sections.append(
            f"<h2>{say('maps.title', layer=layer, head=head)}</h2>"
            f"<p>{escape(findings.maps(measured))}</p>" + f'<div class="maps">{pictures}</div>'
        )
    sections.append(
        f"<h2>{say('layers.title')}</h2><p>{escape(findings.layers(report))}</p>{layer_table.html(report)}"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>turbo_kv: {escape(report.model.name)}, {report.tokens:,} tokens</title>"
        f"<style>{theme.css()}{_STYLE}</style></head>"
        f'<body class="gradio-container"><main><h1>turbo_kv</h1>'
        f"{verdict.html(session.before, report)}{headline.html(report, session.beforehand)}"
        + "".join(sections)
        + f"<h2>Repeat it</h2>{_recipe(session)}"
        + f"<p>{escape(_stamped(stamp))}</p>"
        + f"<details><summary>The report as JSON</summary><pre>{escape(data)}</pre></details>"
        + "</main></body></html>"
    )


def _recipe(session: Session) -> str:
    texts = (recipe.command(session.request), recipe.python(session.request))
    own = f"<p>{escape(recipe.note(session))}</p>" if session.request.text is not None else ""
    return own + "".join(f"<pre>{escape(text)}</pre>" for text in texts)


def _stamped(stamp: dict[str, Any]) -> str:
    names = ("turbo_kv", "commit", "torch", "transformers", "python", "platform", "date")
    return " · ".join(f"{name} {stamp[name]}" for name in names if stamp.get(name))
