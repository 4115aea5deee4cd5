"""Tab Compare: its plot, table and sentences are the points'; measuring fills them one by one."""

import json
import re
from dataclasses import replace
from html import unescape
from itertools import pairwise
from xml.etree import ElementTree

import gradio as gr
import pytest
import reports

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
    assert PLAIN not in compared.points(replace(stored.session, precomputed=False), saved)


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
    assert "Only 3 bits is measured" in compare_words.worth({DEFAULT: CENTRED})
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


def test_labels_of_neighbours_do_not_lie_on_each_other_and_the_best_have_theirs():
    dots = [pareto.Dot(f"method {i}", 3.27, 0.03 + i / 1e4, i == 2, i in (4, 5)) for i in range(9)]
    drawn = re.findall(r'y="([\d.]+)"(?: font-weight="700")?>(method \d)', pareto.pareto(dots, "x"))
    places = sorted(float(place) for place, _ in drawn)
    assert min(b - a for a, b in pairwise(places)) >= pareto.LINE - 0.1
    assert {"method 2", "method 4", "method 5"} <= {name for _, name in drawn}
    assert pareto.pareto(dots, "x").count("<title>") == 9


def test_names_reach_plot_and_table_as_text():
    hostile = pareto.Dot("<script>", 3, 0.1, True, True)
    assert "<script>" not in pareto.pareto([hostile], '"><script>')


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
