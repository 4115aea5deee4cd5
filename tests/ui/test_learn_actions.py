"""The walk through the lessons as plain generators: answers, controls, steps, links, new runs."""

from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo_kv.ui import engine, learn_tab, walk
from turbo_kv.ui.learn_actions import LearnActions
from turbo_kv.ui.lessons.lesson import Scene
from turbo_kv.ui.lessons.order import LESSONS
from turbo_kv.ui.walk import Walk


@pytest.fixture
def taught(monkeypatch, stored, calls) -> list[tuple[int, int]]:
    """The heads whose lessons were measured, which gives the stored numbers."""
    heads = []

    def lessons(prepared, layer, head):
        heads.append((layer, head))
        return replace(stored.lessons, layer=layer, head=head)

    monkeypatch.setattr(engine, "lessons", lessons)
    return heads


@pytest.fixture
def learn(stored, taught) -> LearnActions:
    return LearnActions(stored, engine.Captures(1))


def last(updates):
    return {name: value for update in updates for name, value in update.items()}


def arriving(learn, query):
    return learn.arrive(SimpleNamespace(query_params=query))


def test_a_lesson_shows_nothing_before_it_is_answered(learn, calls):
    page = last(learn.forward(None, Walk()))
    assert "Answer first" in page["lesson_figure"]
    assert page["turn"]["visible"] is False
    assert page["why"] == page["check"] == ""
    assert calls == []


@pytest.mark.parametrize("step", range(len(LESSONS)))
def test_an_answer_shows_check_figure_finding_and_why(learn, stored, step):
    scene, at = Scene(stored.session, stored.lessons), Walk(step=step)
    lesson = LESSONS[step]
    for choice, expected in enumerate(lesson.choices):
        page = last(learn.answer(None, at, choice))
        right = expected.holds(lesson.truth(scene))
        assert ("✓ Right." if right else "✗ Not so.") in page["check"]
    page = last(learn.answer(None, at, len(lesson.choices)))
    assert "Right" not in page["check"]
    assert "Measured: " in page["check"]
    assert "<svg" in page["lesson_figure"]
    assert page["turn"]["visible"]
    assert page["walk"].answers == {step: len(lesson.choices)}
    assert page["steps"]["steps"][step]["done"]


def test_the_control_changes_figure_and_finding_and_is_remembered(learn):
    before = last(learn.answer(None, Walk(step=1), 0))
    after = last(learn.turn(None, before["walk"], "on"))
    assert after["lesson_figure"] != before["lesson_figure"]
    assert "Rotated" in after["lesson_finding"]
    elsewhere = last(learn.forward(None, after["walk"]))
    assert "Answer first" in elsewhere["lesson_figure"]
    back = last(learn.back(None, elsewhere["walk"]))
    assert back["lesson_finding"] == after["lesson_finding"]
    assert back["turn"]["value"] == "on"


def test_a_setting_that_a_lesson_does_not_have_is_its_first_one(learn):
    page = last(learn.answer(None, Walk(step=1, settings={1: "<script>"}), 0))
    assert page["turn"]["value"] == "off"


@pytest.mark.parametrize("choice", [-1, 99])
def test_an_answer_that_is_no_choice_is_refused(learn, choice):
    with pytest.raises(ValueError, match="none of lesson 1"):
        list(learn.answer(None, Walk(), choice))


def test_steps_end_where_lessons_end(learn):
    first = last(learn.back(None, Walk()))
    assert (first["walk"].step, first["back"]["interactive"]) == (0, False)
    end = last(learn.forward(None, Walk(step=5)))
    assert (end["walk"].step, end["next"]["interactive"]) == (5, False)
    picked = last(learn.pick(None, Walk(), gr.SelectData(None, {"index": 3, "value": None})))
    assert picked["walk"].step == 3


def test_a_link_opens_its_lesson_and_nothing_else_does_anything(learn):
    due, at, tabs = arriving(learn, {"lesson": "3", "unknown": "x"})
    assert tabs.selected == "learn"
    page = last(learn.draw(None, at, due))
    assert page["walk"].step == 2
    assert page["walk"].open
    for query in ({}, {"lesson": "0"}, {"lesson": "7"}, {"lesson": "<b>"}, {"lesson": "٣"}):
        assert arriving(learn, query) == (gr.skip(),) * 3


@given(st.text())
def test_any_text_in_a_link_is_a_step_or_nothing(text):
    step = walk.linked_step(text)
    assert step is None or 0 <= step < len(LESSONS)


def test_another_head_is_measured_once_on_the_capture(learn, stored, taught, calls):
    session = stored.session.select(2, 4)
    page = last(learn.answer(session, Walk(step=1), 0))
    assert taught == [(2, 4)]
    assert "layer 2, query head 4" in page["lesson"]
    last(learn.turn(session, page["walk"], "on"))
    assert taught == [(2, 4)]
    last(learn.turn(session.select(0, 0), page["walk"], "on"))
    assert taught == [(2, 4), (0, 0)]
    assert calls[0] == "prepare tiny 2048"


def test_a_capture_that_fails_leaves_the_lesson_as_it_was(learn, stored, monkeypatch):
    def fail(self, request, progress):
        raise ValueError("no <room>")

    monkeypatch.setattr(engine.Captures, "prepare", fail)
    page = last(learn.answer(stored.session.select(2, 4), Walk(step=1), 0))
    assert "no &lt;room&gt;" in page["learn_status"]
    assert "lesson_figure" not in page


def test_a_new_run_redraws_the_lessons_only_while_they_are_in_view(learn, stored):
    assert learn.follow(None, Walk()) == gr.skip()
    looking = Walk(step=3, open=True)
    due = [learn.follow(session, looking) for session in (None, stored.session.select(0, 1))]
    assert due[0] != due[1]
    assert last(learn.draw(None, looking, due[0]))["walk"].step == 3
    for label, is_open in (("Learn", True), ("Run", False)):
        event = gr.SelectData(None, {"index": 0, "value": label})
        page = last(learn.enter(None, Walk(), event))
        assert page["walk"].open == is_open
        assert ("lesson" in page) == is_open


def test_a_tab_that_shows_its_lesson_is_not_drawn_again_under_a_visitor_s_click(learn, stored):
    event = SimpleNamespace(value="Learn")
    shown = last(learn.forward(None, Walk()))["walk"]
    assert set(last(learn.enter(None, shown, event))) == {"walk"}
    elsewhere = stored.session.select(1, 0)
    assert "lesson" in last(learn.enter(elsewhere, shown, event))


def test_what_a_visitor_wrote_is_text_in_a_lesson(stored):
    hostile = "<img src=x>${1}"
    measured = stored.lessons
    ways = tuple(
        replace(way, swap=way.swap and way.swap._replace(query_text=hostile))
        for way in measured.prices.ways
    )
    scene = Scene(stored.session, replace(measured, prices=replace(measured.prices, ways=ways)))
    page = learn_tab.render(Walk(step=5, answers={5: 0}), scene)
    for name in ("lesson_finding", "lesson_figure"):
        assert "<img" not in page[name]
