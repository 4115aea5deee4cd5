"""Colours with enough contrast, light and dark, and the page's style sheet."""

from pathlib import Path

import gradio as gr

from turbo_kv.figures.style import SEQUENTIAL, SIGNED, palette, readable_on

THEME = gr.themes.Default(
    primary_hue="blue",
    secondary_hue="sky",
    neutral_hue="slate",
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
).set(
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_text_color="white",
    button_cancel_background_fill="#b91c1c",
    button_cancel_background_fill_hover="#991b1b",
    button_cancel_background_fill_dark="#b91c1c",
    button_cancel_text_color="white",
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_300",
)


def css() -> str:
    """The style sheet, with one class per colour level of the grids and the legend's gradient."""
    levels = "".join(
        f".heat .l{level}{{background:{fill};color:{readable_on(fill)}}}"
        for level, fill in enumerate(palette())
    )
    bars = "".join(
        f".bar-{name}{{background:linear-gradient(to right,{','.join(palette(cmap, 9))})}}"
        for name, cmap in (("sequential", SEQUENTIAL), ("signed", SIGNED))
    )
    return (Path(__file__).parent / "page.css").read_text() + levels + bars
