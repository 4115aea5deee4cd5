"""Tab Learn: one panel that shows the lesson at hand, below the steps that lead to it.

A lesson asks first; its control and its figure come with the answer. `render` draws a walk.
"""

from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from turbo_kv.ui import status
from turbo_kv.ui.language import counted, heard, say, spoken
from turbo_kv.ui.lessons.lesson import Lesson, Scene
from turbo_kv.ui.lessons.order import LESSONS
from turbo_kv.ui.walk import Walk

_STEPS = """<nav class="steps" aria-label="${value.label}"><ol>
${value.steps.map((step, index) => `<li><button type="button" data-step="${index}"
  ${index === value.at ? 'aria-current="step"' : ''}><b aria-hidden="true">${
  step.done ? '✓' : index + 1}</b> ${step.name}<span class="for-reader">${
  step.done ? value.answered : ''}</span></button></li>`).join('')}
</ol></nav>"""


def build(scene: Scene) -> dict[str, gr.Component]:
    """The tab's components by name, at the first lesson."""
    walk = Walk()
    walk = replace(walk, drawn=walk.due(scene.session))
    first = render(walk, scene)
    lesson = LESSONS[walk.step]
    page: dict[str, gr.Component] = {}
    with gr.Tab(say("tab.learn"), id="learn"):
        page["walk"] = gr.State(walk, time_to_live=3600)
        page["steps"] = gr.HTML(
            first["steps"],
            html_template=_STEPS,
            js_on_load=(Path(__file__).parent / "stepper.js").read_text(),
            elem_id="steps",
        )
        page["learn_status"] = gr.HTML("", elem_id="learn-status")
        page["lesson"] = gr.HTML(first["lesson"], elem_id="lesson")
        with gr.Row(elem_id="lesson-body"):
            with gr.Column(scale=2, min_width=300):
                page["predict"] = gr.Radio(
                    _choices(lesson), label=lesson.question(scene), elem_id="predict"
                )
                page["check"] = gr.HTML(first["check"], elem_id="check")
                page["turn"] = gr.Radio([], visible=False, elem_id="turn")
            with gr.Column(scale=3, min_width=300):
                page["lesson_finding"] = gr.HTML(first["lesson_finding"], elem_id="lesson-finding")
                page["lesson_figure"] = gr.HTML(first["lesson_figure"], elem_id="lesson-figure")
        page["why"] = gr.HTML(first["why"], elem_id="why")
        with gr.Row(elem_id="lesson-buttons"):
            page["back"] = gr.Button(
                say("learn.back"), interactive=False, elem_id="back", min_width=100
            )
            page["next"] = gr.Button(
                say("learn.next"), variant="primary", elem_id="next", min_width=100
            )
    return page


def render(walk: Walk, scene: Scene) -> dict[str, Any]:
    """The lesson at hand, with its figure once the question is answered."""
    lesson = LESSONS[walk.step]
    answer = walk.answers.get(walk.step)
    settings = lesson.settings(scene)
    setting = walk.settings.get(walk.step)
    if setting not in [value for _, value in settings]:
        setting = lesson.start(scene)
    finding = lesson.finding(scene, setting) if walk.answered else ""
    return {
        "steps": {
            "label": say("learn.lessons"),
            "answered": say("learn.answered"),
            "at": walk.step,
            "steps": [
                {"name": one.name, "done": index in walk.answers}
                for index, one in enumerate(LESSONS)
            ],
        },
        "learn_status": "",
        "lesson": _title(walk, lesson, scene),
        "predict": gr.update(choices=_choices(lesson), label=lesson.question(scene), value=answer),
        "check": _check(lesson, scene, answer) if walk.answered else "",
        "turn": gr.update(
            choices=settings, label=lesson.control, value=setting, visible=walk.answered
        ),
        "lesson_finding": _finding(finding),
        "lesson_figure": lesson.figure(scene, setting, finding) if walk.answered else _empty(),
        "why": _why(lesson) if walk.answered else "",
        "back": gr.update(interactive=walk.step > 0),
        "next": gr.update(interactive=walk.step < len(LESSONS) - 1),
    }


def busy(text: str, fraction: float) -> dict[str, str]:
    """The status while the capture is made."""
    return {"learn_status": status.html(status.BUSY, text, fraction)}


def failed(error: Exception) -> dict[str, str]:
    """The status when the numbers cannot be had."""
    said = say("learn.failed", error=heard("error", str(error)))
    return {"learn_status": status.html(status.FAILED, said)}


def _choices(lesson: Lesson) -> list[tuple[str, int]]:
    texts = [*lesson.answers, say("learn.show")]
    return [(text, index) for index, text in enumerate(texts)]


def _title(walk: Walk, lesson: Lesson, scene: Scene) -> str:
    report, measured = scene.session.shown, scene.measured
    about = say(
        "learn.about",
        model=report.model.name,
        text=say(
            "text.read",
            tokens=counted("tokens", report.tokens),
            text=heard("name", report.text.name),
        ),
        layer=measured.layer,
        head=measured.head,
        kv_head=measured.kv_head,
        setup=lesson.setup(scene),
    )
    number = walk.step + 1
    return (
        f'<div class="section"><h2>{number}. {escape(lesson.title)} '
        f"<small>{say('learn.number', number=number, count=len(LESSONS))} · "
        f'<a href="?lang={spoken()}&amp;lesson={number}">{say("learn.link")}</a></small></h2>'
        f'<p class="about">{escape(about)}</p></div>'
    )


def _check(lesson: Lesson, scene: Scene, answer: int) -> str:
    measured = say("learn.measured", said=lesson.said(scene))
    if answer < len(lesson.choices):
        right = lesson.choices[answer].holds(lesson.truth(scene))
        mark = say("learn.right") if right else say("learn.wrong")
        kind = "right" if right else "wrong"
        return _said(f"{mark} {measured}", f"check-{kind}")
    return _said(measured, "check-shown")


def _said(text: str, kind: str) -> str:
    return f'<p class="check {kind}" role="status">{escape(text)}</p>'


def _finding(text: str) -> str:
    return f'<p class="finding" aria-live="polite">{escape(text)}</p>'


def _empty() -> str:
    return f'<p class="ask-first">{say("learn.first")}</p>'


def _why(lesson: Lesson) -> str:
    return f'<div class="why"><h3>{say("learn.why")}</h3><p>{escape(lesson.why)}</p></div>'
