"""What stands above the tabs: the verdict and the headline strip."""

import gradio as gr

from turbo_kv.ui import headline, status, verdict
from turbo_kv.ui.session import Session


def build(session: Session, ready: str) -> dict[str, gr.Component]:
    """The components by name."""
    first = render(session)
    with gr.Column(scale=5, min_width=320, elem_id="result"):
        return {
            "status": gr.HTML(status.html(status.READY, ready), elem_id="status"),
            "verdict": gr.HTML(first["verdict"], elem_id="verdict"),
            "headline": gr.HTML(first["headline"], elem_id="headline"),
        }


def render(session: Session, previous: bool = False) -> dict[str, str]:
    """The verdict on the report shown; `previous` says a later run left it standing."""
    return {
        "verdict": verdict.html(session.before, session.shown, previous),
        "headline": headline.html(session.shown, session.beforehand),
    }
