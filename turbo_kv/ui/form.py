"""The run bar: what to read, how to store it, Run and Stop. Fields, their messages, their lock.

Knows the choices and the limits of this host, not what a run does with them.
"""

from collections.abc import Mapping
from typing import Any, get_args

import gradio as gr

from turbo_kv.measure.report import Request
from turbo_kv.quant.config import (
    BITS,
    SCALE_BITS,
    Centering,
    Codebook,
    QjlBudget,
    QjlOn,
    QuantConfig,
)
from turbo_kv.ui import limits, status, wording
from turbo_kv.ui.language import heard, say

SWITCHES = (
    *("bits", "rotation", "qjl", "qjl_budget", "qjl_on"),
    *("centering", "codebook", "scale_bits", "seed"),
)
READING = ("model", "source", "text", "context", "device")
FIELDS = (*SWITCHES, *READING)
WITH_MESSAGE = ("bits", "seed", "model", "text", "context", "device")


def build(request: Request, host: limits.Limits) -> dict[str, gr.Component]:
    """The components by field name; messages as "<field>_message", buttons "run" and "stop"."""
    page: dict[str, gr.Component] = {}
    with gr.Column(scale=2, min_width=300, elem_id="form"):
        _switches(page, request)
        _reading(page, request, host)
        with gr.Row(elem_id="buttons"):
            page["run"] = gr.Button(
                say("form.run"), variant="primary", elem_id="run", min_width=120
            )
            page["stop"] = gr.Button(
                say("form.stop"), variant="stop", elem_id="stop", min_width=80, interactive=False
            )
    return page


def _switches(page: dict[str, gr.Component], request: Request) -> None:
    config = request.config
    with gr.Group(elem_id="switches"):
        gr.HTML(_heading("storing"), padding=True)
        page["centering"] = gr.Radio(
            _choices(Centering),
            value=config.centering,
            label=wording.name("centering"),
            info=say("form.centering_info"),
            elem_id="centering",
        )
        page["bits"] = gr.Radio(
            list(BITS), value=config.bits, label=say("form.bits"), elem_id="bits"
        )
        _message(page, "bits")
        page["rotation"] = gr.Checkbox(
            config.rotation,
            label=wording.name("rotation"),
            info=say("form.rotation_info"),
            elem_id="rotation",
        )
        page["qjl"] = gr.Checkbox(
            config.qjl,
            label="QJL",
            info=say("form.qjl_info"),
            elem_id="qjl",
        )
        with gr.Accordion(say("form.more"), open=False, elem_id="more"):
            page["qjl_budget"] = gr.Radio(
                _choices(QjlBudget),
                value=config.qjl_budget,
                label=say("form.qjl_budget"),
                elem_id="qjl-budget",
            )
            page["qjl_on"] = gr.Radio(
                _choices(QjlOn), value=config.qjl_on, label=wording.name("qjl_on"), elem_id="qjl-on"
            )
            page["codebook"] = gr.Dropdown(
                _choices(Codebook),
                value=config.codebook,
                label=wording.name("codebook"),
                info=say("form.codebook_info"),
                elem_id="codebook",
            )
            page["scale_bits"] = gr.Radio(
                list(SCALE_BITS),
                value=config.scale_bits,
                label=say("form.scale_bits"),
                elem_id="scale-bits",
            )
            page["seed"] = gr.Number(
                config.seed, label=wording.name("seed"), precision=0, elem_id="seed"
            )
            _message(page, "seed")
            page["device"] = gr.Dropdown(
                [(wording.value(device), device) for device in limits.DEVICES],
                value=request.device,
                label=say("form.device"),
                elem_id="device",
            )
            _message(page, "device")


def _reading(page: dict[str, gr.Component], request: Request, host: limits.Limits) -> None:
    with gr.Group(elem_id="reading"):
        gr.HTML(_heading("reading"), padding=True)
        with gr.Row():
            page["model"] = gr.Dropdown(
                list(host.models),
                value=request.model,
                label=say("metric.model"),
                min_width=140,
                elem_id="model",
            )
            page["context"] = gr.Number(
                request.context,
                label=say("form.context"),
                precision=0,
                min_width=100,
                elem_id="context",
            )
        _message(page, "model")
        _message(page, "context")
        page["source"] = gr.Dropdown(
            [(heard("name", name), name) for name in (*limits.SOURCES, limits.OWN_TEXT)],
            value=request.source,
            label=say("metric.text"),
            elem_id="source",
        )
        page["text"] = gr.Textbox(
            label=say("form.text"),
            lines=4,
            max_lines=8,
            placeholder=say("form.placeholder"),
            elem_id="text",
            visible=False,
        )
        _message(page, "text")
        page["file"] = gr.UploadButton(
            say("form.upload"), file_types=[".txt"], size="sm", elem_id="file"
        )


def _heading(part: str) -> str:
    return f"<h2>{say(f'form.{part}')} <small>{say(f'form.{part}_when')}</small></h2>"


def _choices(literal: Any) -> list[tuple[str, str]]:
    return [(wording.value(choice), choice) for choice in get_args(literal)]


def _message(page: dict[str, gr.Component], field: str) -> None:
    page[f"{field}_message"] = gr.HTML("", elem_id=f"{field}-message")


def messages(errors: Mapping[str, str], notes: Mapping[str, str] | None = None) -> dict[str, str]:
    """The message under every field: the given errors and notes, empty for the rest."""
    shown = {f"{field}_message": "" for field in WITH_MESSAGE}
    shown |= {
        f"{field}_message": status.alert(text, note=True) for field, text in (notes or {}).items()
    }
    return shown | {f"{field}_message": status.alert(text) for field, text in errors.items()}


def locked(busy: bool) -> dict[str, Any]:
    """Every field and Run out of reach while busy, Stop while not."""
    changes = {name: gr.update(interactive=not busy) for name in (*FIELDS, "file", "run")}
    return changes | {"stop": gr.update(interactive=busy)}


def values(config: QuantConfig) -> dict[str, Any]:
    """The switches set to a configuration."""
    return {name: getattr(config, name) for name in SWITCHES}


def field_of(error: Exception) -> str:
    """The field that a failed run's message belongs to, by how the message begins."""
    beginnings = {"Your text": "text", "context": "context", "device": "device"}
    return next(
        (field for start, field in beginnings.items() if str(error).startswith(start)), "model"
    )
