"""Tab Generate: one prompt continued twice, in full precision and packed, side by side.

Model and quantization are the run bar's. `render` draws a transcript; `parting` its finding, which
alone is announced, and only when it changes.
"""

from html import escape
from typing import Any

import gradio as gr

from turbo_kv.measure.prompts import EXAMPLES
from turbo_kv.measure.transcript import STREAMS, Transcript
from turbo_kv.ui import form, generation_words, limits, status, stream_panes
from turbo_kv.ui.language import heard, say
from turbo_kv.ui.sample import Sample

OWN = ("prompt", "new_tokens", "exact_window", "temperature", "sampling_seed")
FIELDS = (*form.SWITCHES, "model", "device", *OWN)
_SHOWN = (
    *("generate", "generate_stop", "generate_status"),
    *("parting", "generation", "exact_stream", "packed_stream"),
)
OUTPUTS = (
    *OWN,
    *(f"{name}_message" for name in (*OWN, *form.WITH_MESSAGE)),
    *_SHOWN,
)
_PARTING = '<p class="finding parting" aria-live="polite">${value}</p>'


def build(saved: Sample, host: limits.Limits) -> dict[str, gr.Component]:
    """The tab's components by name, filled with a saved sample."""
    page: dict[str, gr.Component] = {}
    sample = saved.transcript
    first = render(sample, say("generate.sample", date=saved.date))
    with gr.Tab(say("tab.generate"), id="generate"):
        with gr.Row(elem_id="ask"):
            with gr.Column(scale=3, min_width=300):
                _prompt(page, sample.request.prompt)
            with gr.Column(scale=2, min_width=300):
                _choices(page, sample, host)
        page["generate_status"] = gr.HTML(
            status.html(status.READY, say("generate.ready")),
            padding=False,
            elem_id="generate-status",
        )
        page["parting"] = gr.HTML(
            escape(generation_words.parting(sample), quote=False),
            html_template=_PARTING,
            padding=False,
            elem_id="parting",
        )
        with gr.Row(elem_id="streams"):
            for stream in STREAMS:
                with gr.Column(min_width=300):
                    page[f"{stream}_stream"] = gr.HTML(
                        first[f"{stream}_stream"], padding=False, elem_id=f"{stream}-stream"
                    )
        page["generation"] = gr.HTML(first["generation"], padding=False, elem_id="generation")
    return page


def _prompt(page: dict[str, gr.Component], prompt: str) -> None:
    page["prompt"] = gr.Textbox(
        prompt, label=say("generate.prompt"), lines=5, max_lines=10, elem_id="prompt"
    )
    _message(page, "prompt")
    page["example"] = gr.Dropdown(
        [(heard("example", name), name) for name in EXAMPLES],
        value=next(iter(EXAMPLES)),
        label=say("generate.examples"),
        elem_id="example",
    )


def _choices(page: dict[str, gr.Component], sample: Transcript, host: limits.Limits) -> None:
    page["new_tokens"] = gr.Slider(
        1,
        host.new_tokens,
        value=min(sample.request.new_tokens, host.new_tokens),
        step=1,
        label=say("generate.new_tokens"),
        elem_id="new-tokens",
    )
    _message(page, "new_tokens")
    page["exact_window"] = gr.Slider(
        0,
        limits.LARGEST_WINDOW,
        value=sample.request.exact_window,
        step=16,
        label=say("generate.exact_window"),
        info=say("generate.exact_window_info"),
        elem_id="exact-window",
    )
    _message(page, "exact_window")
    with gr.Accordion(say("generate.sampling"), open=False, elem_id="sampling"):
        page["temperature"] = gr.Slider(
            0,
            limits.MAXIMUM_TEMPERATURE,
            value=0,
            step=0.1,
            label=say("generate.temperature"),
            info=say("generate.temperature_info"),
            elem_id="temperature",
        )
        _message(page, "temperature")
        page["sampling_seed"] = gr.Number(
            0, label=say("generate.seed"), precision=0, elem_id="sampling-seed"
        )
        _message(page, "sampling_seed")
    with gr.Row():
        page["generate"] = gr.Button(
            say("tab.generate"), variant="primary", elem_id="generate", min_width=120
        )
        page["generate_stop"] = gr.Button(
            say("form.stop"),
            variant="stop",
            elem_id="generate-stop",
            min_width=80,
            interactive=False,
        )


def _message(page: dict[str, gr.Component], field: str) -> None:
    page[f"{field}_message"] = gr.HTML("", elem_id=f"{field.replace('_', '-')}-message")


def messages(errors: dict[str, str]) -> dict[str, str]:
    """The message under every field the tab reads: the given errors, empty for the rest."""
    shown = {f"{name}_message": "" for name in OWN}
    return shown | form.messages(errors)


def locked(busy: bool) -> dict[str, Any]:
    """The tab's own fields and Generate out of reach while busy, Stop while not."""
    changes = {name: gr.update(interactive=not busy) for name in (*OWN, "generate")}
    return changes | {"generate_stop": gr.update(interactive=busy)}


def render(transcript: Transcript, made: str) -> dict[str, str]:
    """Both streams and what they show, from the steps so far; `made` says where they come from."""
    panes = {f"{stream}_stream": stream_panes.html(transcript, stream) for stream in STREAMS}
    return {"generation": _shown(transcript, made)} | panes


def _shown(transcript: Transcript, made: str) -> str:
    words = generation_words
    sentences = (words.memory(transcript), words.speed(transcript), words.divergence(transcript))
    findings = "".join(f'<p class="finding">{escape(sentence)}</p>' for sentence in sentences)
    return f'<div class="generation">{findings}<p>{escape(_stamp(transcript, made))}</p></div>'


def _stamp(transcript: Transcript, made: str) -> str:
    request, model = transcript.request, transcript.model
    how = say("generate.sampled", temperature=f"{request.temperature:g}", seed=request.seed)
    parts = [
        made,
        model.name,
        say("generate.prompt_tokens", tokens=f"{transcript.prompt_tokens:,}"),
        how if request.temperature else say("generate.likeliest"),
        f"{model.device} {model.dtype}",
    ]
    return " · ".join([*parts, *(heard("note", note) for note in transcript.text.notes)])
