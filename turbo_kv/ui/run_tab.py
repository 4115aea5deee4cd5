"""Tab Run: memory, cosine and attention grids, one head's attention maps, the per-layer table.

Every figure opens with the sentence that says what it shows. `render` draws a session, `partial`
the layers finished so far, `maps` the pictures of the selected head.
"""

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from turbo_kv.measure.report import Report
from turbo_kv.ui import export_bar, findings, grid, head_maps, layer_table, memory_bar, pinned
from turbo_kv.ui.engine import Map
from turbo_kv.ui.language import say
from turbo_kv.ui.session import Session

GRIDS = {"key_grid": grid.KEYS, "value_grid": grid.VALUES, "attention_grid": grid.ATTENTION}


def build(session: Session, measured: Map) -> dict[str, gr.Component]:
    """The tab's components by name, filled with the session and the maps of its head."""
    first = render(session) | maps(session, measured)
    page: dict[str, gr.Component] = {}
    with gr.Tab(say("tab.run"), id="run"):
        page |= pinned.buttons()
        page["pinned"] = gr.HTML("", visible=False, elem_id="pinned")
        page["memory"] = gr.HTML(first["memory"], elem_id="memory")
        for name, metric in GRIDS.items():
            page[f"{name}_finding"] = gr.HTML(
                first[f"{name}_finding"], elem_id=f"{name.replace('_', '-')}-finding"
            )
            with gr.Row(elem_classes="grid-pair"):
                page[name] = grid.component(first[name], name.replace("_", "-"))
                other = pinned.PREFIX + name
                page[other] = grid.component(None, other.replace("_", "-"))
            gr.HTML(grid.legend(metric))
        page["maps"] = gr.HTML(
            first["maps"],
            js_on_load=(Path(__file__).parent / "maps.js").read_text(),
            elem_id="maps",
        )
        page["table"] = gr.HTML(first["table"], elem_id="table")
        page["export"] = export_bar.component(session)
    return page


def render(session: Session) -> dict[str, Any]:
    """Everything but the maps, from the report shown."""
    report = session.shown
    return {
        "memory": _section(say("memory.title"), findings.memory(report)) + memory_bar.html(report),
        "key_grid_finding": _section(title("key_grid"), findings.cosines(report, "key_cosine")),
        "value_grid_finding": _section(
            title("value_grid"), findings.cosines(report, "value_cosine")
        ),
        "attention_grid_finding": _section(title("attention_grid"), findings.attention(report)),
        "table": _section(say("layers.title"), findings.layers(report)) + layer_table.html(report),
        "export": export_bar.render(session),
        **beside(session),
    }


def partial(report: Report, selected: tuple[int, int]) -> dict[str, Any]:
    """The heatmaps as far as they are measured, with no finding until they are whole."""
    said = say("grid.measured", done=len(report.layers), layers=report.model.layers)
    sections = {f"{name}_finding": _section(title(name), said) for name in GRIDS}
    return grids(report, selected) | sections


def grids(report: Report, selected: tuple[int, int], beside_pinned: bool = False) -> dict[str, Any]:
    """The three heatmaps; layers that the report does not have yet are pending."""
    return grid.states(GRIDS, report, selected, say("pin.now") if beside_pinned else "")


def beside(session: Session) -> dict[str, Any]:
    """The pinned result, beside the heatmaps of the one shown."""
    return pinned.render(session, GRIDS) | grids(
        session.shown, session.selected, session.pinned is not None
    )


def maps(session: Session, measured: Map) -> dict[str, str]:
    """The selected head: what its attention did, in words and in three pictures."""
    layer, head = session.selected
    heading = say("maps.title", layer=layer, head=head)
    sentences = findings.maps(measured), findings.cell(session.shown, layer, head)
    pictures = head_maps.html(measured, layer, head, session.shown.bits_per_value)
    return {"maps": _section(heading, *sentences) + pictures}


def title(name: str) -> str:
    """What stands above one of GRIDS."""
    return say(f"grid.title.{name}")


def _section(heading: str, *sentences: str) -> str:
    text = "".join(f'<p class="finding">{escape(sentence)}</p>' for sentence in sentences)
    return f'<div class="section"><h3>{escape(heading)}</h3>{text}</div>'
