"""Every lesson asks what its numbers decide, and says what its figure shows."""

import re
from dataclasses import replace

import pytest
import reports
from hypothesis import given
from hypothesis import strategies as st

from turbo_kv.measure.report import Request
from turbo_kv.models.catalog import CATALOG
from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui import precomputed
from turbo_kv.ui.lessons import centre, cost, pay, quantize, rotate, sketch, ticks
from turbo_kv.ui.lessons.lesson import Scene
from turbo_kv.ui.lessons.order import LESSONS
from turbo_kv.ui.session import first

STORED = precomputed.read()
SCENE = Scene(STORED.session, STORED.lessons)
every_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)


@every_lesson
def test_exactly_one_answer_is_right(lesson):
    assert sum(choice.holds(lesson.truth(SCENE)) for choice in lesson.choices) == 1


@every_lesson
@given(st.floats(0, 1e6))
def test_whatever_is_measured_one_answer_is_right(lesson, number):
    assert sum(choice.holds(number) for choice in lesson.choices) == 1


@every_lesson
def test_every_setting_has_a_figure_with_its_finding_and_a_table(lesson):
    settings = lesson.settings(SCENE)
    assert lesson.start(SCENE) in [value for _, value in settings]
    findings = [lesson.finding(SCENE, value) for _, value in settings]
    assert len(set(findings)) == len(settings) >= 2
    for (_, value), finding in zip(settings, findings):
        html = lesson.figure(SCENE, value, finding)
        assert html.count("<svg") == html.count('role="img"') >= 1
        assert html.count("Show as table") == 1
        assert "nan" not in html.lower().replace("nanosecond", "")
        assert len(html) < 40_000
        assert re.search(r"\d", finding)


@pytest.mark.parametrize(
    "lesson", [module.LESSON for module in (rotate, centre, sketch, pay)], ids=lambda one: one.name
)
def test_axes_do_not_move_when_the_control_does(lesson):
    figures = [lesson.figure(SCENE, value, "") for _, value in lesson.settings(SCENE)]
    axes = [re.findall(r'<div class="plot-[xy]">.*?</div>', html) for html in figures]
    assert all(axis == axes[0] for axis in axes)


@every_lesson
def test_why_is_two_sentences(lesson):
    assert len(re.findall(r"\.(?: |$)", lesson.why)) == 2


def test_the_cost_is_the_measured_one_taken_further():
    report = SCENE.session.shown
    one = cost.of_report(report, report.tokens)
    assert (one.exact, one.packed) == (report.before_bytes, report.after.total)
    assert one.weights == CATALOG["tiny"].weights_bytes
    longer = cost.of_report(report, 4 * report.tokens)
    assert longer.wall == pytest.approx(one.wall / 4)


@pytest.mark.parametrize(("name", "text"), [("Qwen2.5-0.5B", 3), ("Qwen2.5-7B", 9)])
def test_the_cache_of_32k_texts_outweighs_published_models_where_the_facts_say(name, text):
    assert cost.outweighs(cost.of_card(CATALOG[name], 32_768).wall) == text


def test_ordinals():
    nth = [cost._nth(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 111)]
    assert nth == [
        f"the {n}" for n in ("1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "111th")
    ]


def test_rotation_has_a_sentence_for_better_worse_and_neither():
    assert "falls from 0.68" in rotate.finding(SCENE, rotate.ON)
    for largest, verb in ((0.9, "rises"), (SCENE.measured.rotation.plain.largest, "stays")):
        rotated = replace(SCENE.measured.rotation.rotated, largest=largest)
        rotation = replace(SCENE.measured.rotation, rotated=rotated)
        scene = Scene(SCENE.session, replace(SCENE.measured, rotation=rotation))
        assert verb in rotate.finding(scene, rotate.ON)


@pytest.mark.parametrize(
    ("factor", "said"), [(2, "2.0 times further"), (0.5, "2.0 times closer"), (1, "as far from")]
)
def test_a_sketch_is_judged_by_attention_in_every_direction(factor, said):
    off, _, inside = SCENE.measured.estimates.ways
    ways = (off, replace(off, sketch="on-top", kl=off.kl * factor), inside)
    estimates = replace(SCENE.measured.estimates, ways=ways)
    scene = Scene(SCENE.session, replace(SCENE.measured, estimates=estimates))
    assert said in sketch.finding(scene, "on-top")


def test_more_bits_are_compared_with_one_fewer():
    assert "3.5 times less than 2 bits" in quantize.finding(SCENE, "3")
    assert "less than" not in quantize.finding(SCENE, "2")


def test_a_head_that_never_looks_elsewhere_says_so():
    ways = tuple(replace(way, swap=None) for way in SCENE.measured.prices.ways)
    prices = replace(SCENE.measured.prices, ways=ways)
    assert "No query looks elsewhere" in pay.finding(
        Scene(SCENE.session, replace(SCENE.measured, prices=prices)), "3"
    )


def test_a_token_of_the_visitor_is_text_in_the_finding():
    assert pay.quoted("\n <b>") == "“↵␣<b>”"


def test_centring_is_taught_on_the_setting_shown_or_on_one_that_has_both():
    configs = [QuantConfig(**c) for c in ({}, {"centering": "off"}, {"bits": 4})]
    session = first(Request(), [reports.report(config) for config in configs], 1, False)
    assert [r.config for r in centre.pair(session).values()] == [configs[1], configs[0]]
    four = session.show(reports.report(configs[2]))
    assert [r.config for r in centre.pair(four).values()] == [configs[1], configs[0]]
    both = four.show(reports.report(QuantConfig(bits=4, centering="off")))
    assert {r.config.bits for r in centre.pair(both).values()} == {4}
    assert list(centre.pair(both)) == ["off", "mean"]


@given(st.floats(1e-6, 1e6), st.sampled_from([2, 3, 5]))
def test_marks_are_few_round_and_within_the_axis(high, steps):
    marks = ticks.upto(high, steps=steps)
    assert marks[0][0] == 0
    assert 2 <= len(marks) <= steps + 1
    assert all(value <= high * 1.001 for value, _ in marks)
