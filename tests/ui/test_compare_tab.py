"""Tab Compare: its plot, table and sentences are the points'; measuring fills them one by one."""

import json
import re
from dataclasses import replace
from html import unescape
from xml.etree import ElementTree

import gradio as gr
import pytest
import reports
from hypothesis import given, settings
from hypothesis import strategies as st

from turbo_kv.figures import pareto
from turbo_kv.measure.methods import DEFAULT, methods
from turbo_kv.measure.point import Point
from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui import (
    compare_tab,
    compare_views,
    compare_words,
    compared,
    downloads,
    engine,
    precomputed,
)
from turbo_kv.ui.compare_actions import CompareActions
from turbo_kv.ui.compared import Compared

PLAIN = QuantConfig(bits=4, centering="off")
CENTRED, UNCENTRED = (Point.of(reports.report(config)) for config in (DEFAULT, PLAIN))
POINTS = {point.config: point for point in (CENTRED, UNCENTRED)}


@pytest.fixture
def compare(stored, calls) -> CompareActions:
    return CompareActions(engine.Captures(1), stored, Compared({}, {"date": "2026-01-01"}))


def merged(updates):
    return {name: value for update in updates for name, value in update.items()}


def test_methods_fill_the_plot_one_by_one_and_join_the_session(compare, calls):
    chosen = ["3 bits", "4 bits", "2 bits"]
    updates = list(compare.compare(None, chosen, "3 bits", "4 bits"))
    assert [call for call in calls if call.startswith("measure")] == [
        "measure mean 2",
        "measure mean 4",
    ]
    rows = [u["compare_table"].count("<tr>") - 1 for u in updates if "compare_table" in u]
    assert rows == [2, 3, 3]
    page = merged(updates)
    assert "Done · 2 methods measured" in page["compare_status"]
    assert set(page["session"].points) == {QuantConfig(bits=2), QuantConfig(bits=4)}
    assert page["session"].config == DEFAULT
    assert page["compare"] == gr.update(interactive=True)

    calls.clear()
    again = merged(compare.compare(page["session"], chosen, "3 bits", "4 bits"))
    assert "already" in again["compare_status"]
    assert calls == []


def test_the_two_picked_are_measured_even_when_not_chosen(compare, calls):
    page = merged(compare.compare(None, [], "3 bits", "4 bits, centring: off"))
    assert "measure off 4" in calls
    assert "Show as table" in page["compare_layers"]


def test_a_method_that_does_not_exist_measures_nothing(compare, calls):
    merged(compare.compare(None, ["5 bits", "<img>"], "3 bits", "3 bits"))
    assert calls == []


def test_what_fails_is_told_and_gives_the_button_back(compare, monkeypatch):
    def fail(self, request, progress):
        raise ValueError("Qwen2.5-7B is <not> here")

    monkeypatch.setattr(engine.Captures, "find", lambda self, request: None)
    monkeypatch.setattr(engine.Captures, "prepare", fail)
    page = merged(compare.compare(None, ["4 bits"], "3 bits", "4 bits"))
    assert "Qwen2.5-7B is <not> here" in unescape(page["compare_status"])
    assert "<not>" not in page["compare_status"]
    assert page["compare"] == gr.update(interactive=True)
    assert "compare_plot" not in page


def test_stored_points_leave_with_the_reading_they_were_measured_on(stored):
    saved = Compared({PLAIN: UNCENTRED}, {})
    assert PLAIN in compared.points(stored.session, saved)
    assert PLAIN not in compared.points(replace(stored.session, stored=frozenset()), saved)


@pytest.mark.parametrize(
    ("factor", "said"),
    [
        (1, "Centring gains more than another bit"),
        (1e-3, "Another bit gains more than centring"),
    ],
)
def test_centring_is_weighed_against_a_bit(factor, said):
    plain = replace(UNCENTRED, attention_kl=UNCENTRED.attention_kl * factor)
    assert said in compare_words.centring({DEFAULT: CENTRED, PLAIN: plain})
    equal = replace(UNCENTRED, attention_kl=CENTRED.attention_kl)
    assert "gain the same" in compare_words.centring({DEFAULT: CENTRED, PLAIN: equal})
    assert compare_words.centring({DEFAULT: CENTRED}) == ""


def test_the_finding_names_the_front_however_many_there_are():
    assert "Press Compare" in compare_words.worth({})
    assert "Only “3 bits” is measured" in compare_words.worth({DEFAULT: CENTRED})
    assert "beats “4 bits, centring: off” or “3 bits” at its size: " in compare_words.worth(POINTS)
    beaten = replace(UNCENTRED, bits_per_value=8)
    assert "beats “3 bits” at its size; the other one is larger" in compare_words.worth(
        {DEFAULT: CENTRED, PLAIN: beaten}
    )


def test_two_methods_are_told_apart_whichever_comes_first():
    assert "“3 bits” stays" in compare_words.pair(UNCENTRED, CENTRED)
    assert "“3 bits” stays" in compare_words.pair(CENTRED, UNCENTRED)
    assert "Both stay equally close" in compare_words.pair(CENTRED, CENTRED)
    assert "They differ most in layer 3" in compare_words.pair(UNCENTRED, CENTRED)


def test_more_damage_lies_higher_and_more_bits_further_right():
    svg = compare_views.plot([CENTRED, UNCENTRED], (), "finding")
    circles = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', svg)
    (x0, y0), (x1, y1) = [tuple(map(float, circle)) for circle in circles]
    assert (x1 - x0) * (UNCENTRED.bits_per_value - CENTRED.bits_per_value) >= 0
    assert y1 < y0
    assert pareto.TOP <= y1 <= y0 <= pareto.BOTTOM


WORDS = pareto.Words("bits", "nats", "bf16", "{name}: {bits}, {kl}")
DOT = st.builds(
    pareto.Dot,
    st.text("ab 比", min_size=1, max_size=24),
    st.floats(2, 5),
    st.floats(1e-4, 10),
    st.booleans(),
    st.booleans(),
)


def boxes(svg: str) -> list[tuple[float, float, float, float]]:
    """Left, right, top and bottom of every name in a drawing, as wide as the drawing takes it."""
    found = []
    for x, y, end, name in re.findall(
        r'<text x="([\d.]+)" y="([\d.]+)"( text-anchor="end")?(?: font-weight="700")?>([^<]+)<', svg
    ):
        ends = sorted((float(x), float(x) + (-1 if end else 1) * pareto._width(name)))
        found.append((*ends, float(y) - 4 - pareto.LINE / 2, float(y) - 4 + pareto.LINE / 2))
    return found


@given(st.lists(DOT, min_size=1, max_size=25))
@settings(max_examples=40, deadline=None)
def test_no_name_lies_on_another_name_or_on_a_point(dots):
    svg = pareto.pareto(dots, "x", WORDS)
    names = [box for box in boxes(svg) if box[3] <= pareto.BOTTOM + 0.1]
    middles = [
        tuple(map(float, c)) for c in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', svg)
    ]
    points = [(x - 5, x + 5, y - 5, y + 5) for x, y in middles]
    for index, name in enumerate(names):
        for other in [*names[:index], *points]:
            apart = max(name[0], other[0]) > min(name[1], other[1]) - 0.2
            assert apart or max(name[2], other[2]) > min(name[3], other[3]) - 0.2
    assert svg.count("<title>") == len(dots)


def test_where_there_is_room_for_few_names_the_best_and_the_compared_have_theirs():
    dots = [pareto.Dot(f"method {i}", 3.27, 0.03 + i / 1e4, i == 2, i in (4, 5)) for i in range(9)]
    svg = pareto.pareto(dots, "x", WORDS)
    for name in ("method 2", "method 4", "method 5"):
        assert f">{name}</text>" in svg


def test_names_reach_plot_and_table_as_text():
    hostile = pareto.Dot("<script>", 3, 0.1, True, True)
    assert "<script>" not in pareto.pareto([hostile], '"><script>', WORDS)


@pytest.mark.parametrize("name", compare_tab.FILES)
def test_points_and_plot_can_be_taken_along(compare, name):
    event = gr.SelectData(None, {"index": 0, "value": name})
    update = compare.download(None, ["3 bits"], "3 bits", "4 bits", event)
    assert update["compare_files"]["file"]["name"] == f"turbo_kv-{name}"


def test_an_unknown_file_is_refused(compare):
    event = gr.SelectData(None, {"index": 0, "value": "../secret"})
    with pytest.raises(ValueError, match=r"choose one of methods\.json"):
        compare.download(None, ["3 bits"], "3 bits", "4 bits", event)


def test_the_drawing_stands_alone():
    plot = compare_views.plot([CENTRED, UNCENTRED], ("3 bits",), "finding")
    drawing = downloads.standalone(plot)
    assert ElementTree.fromstring(drawing).tag.endswith("svg")
    assert "var(" not in drawing


def test_the_stored_points_are_of_the_stored_reading_and_cover_every_method():
    stored, session = compared.read(), precomputed.read().session
    assert stored.stamp["date"]
    data = json.loads((precomputed.RESULTS / f"{compared.NAME}.json").read_text())
    assert data["text"]["sha256"] == session.shown.text.sha256
    assert data["tokens"] == session.shown.tokens
    for config, report in session.runs.items():
        kl = float(report.grid("attention_kl").mean())
        assert stored.points[config].attention_kl == pytest.approx(kl, rel=0.05)
        assert stored.points[config].bits_per_value == pytest.approx(report.bits_per_value, 1e-4)
    assert set(stored.points) <= set(methods().values())
