"""Files of a result, recipes that repeat it, links that restore its form."""

import csv
import json
import re
import shlex
from dataclasses import replace
from html import unescape
from urllib.parse import parse_qsl
from xml.etree import ElementTree

import gradio as gr
import numpy as np
import pytest
import reports
from configs import configs
from conftest import a_map
from hypothesis import given
from hypothesis import strategies as st
from typer.main import get_command
from typer.testing import CliRunner

from turbo_kv.__main__ import app
from turbo_kv.measure.report import Report, Request
from turbo_kv.measure.report_csv import to_csv
from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui import engine, export, limits, permalink, precomputed, recipe
from turbo_kv.ui.export_actions import ExportActions
from turbo_kv.ui.session import Session, first

STAMP = {"turbo_kv": "0.1.0", "commit": "abc", "date": "2026-01-01"}
REPORT = reports.report()
SESSION = first(Request(), [REPORT, reports.report(QuantConfig(centering="off"))], 1, False)
HOSTILE = "<img src=x onerror=alert(1)>${7*7}{{7*7}}"


def made(name: str, session: Session = SESSION) -> str:
    return export.make(name, session, STAMP, a_map()).decode()


def session_of(request: Request) -> Session:
    return first(request, [reports.report(request.config)], 1, False)


def test_the_json_is_the_stamped_report_and_reads_back():
    data = json.loads(made("report.json"))
    assert data["stamp"] == STAMP
    again = Report.from_dict(data)
    assert again.config == REPORT.config
    assert again.after == REPORT.after
    np.testing.assert_allclose(again.grid("attention_kl"), REPORT.grid("attention_kl"), rtol=1e-6)


def test_the_csv_has_every_layer_and_head_with_what_its_kv_head_holds():
    rows = list(csv.DictReader(to_csv(REPORT).splitlines()))
    assert len(rows) == reports.LAYERS * reports.QUERY_HEADS
    for row in rows:
        layer = REPORT.layers[int(row["layer"])]
        head, kv_head = int(row["query_head"]), int(row["kv_head"])
        assert kv_head == head // (reports.QUERY_HEADS // reports.KV_HEADS)
        assert float(row["attention_kl"]) == pytest.approx(layer.attention_kl[head], rel=1e-6)
        assert float(row["key_cosine"]) == pytest.approx(layer.key_cosine[kv_head], rel=1e-6)


@pytest.mark.parametrize("name", export.FIGURES)
def test_a_figure_is_a_picture_in_both_forms_and_always_the_same(name):
    picture = export.make(f"{name}.png", SESSION, STAMP, None)
    assert picture.startswith(b"\x89PNG")
    drawing = export.make(f"{name}.svg", SESSION, STAMP, None)
    assert ElementTree.fromstring(drawing).tag.endswith("svg")
    assert drawing == export.make(f"{name}.svg", SESSION, STAMP, None)


def test_the_page_asks_for_nothing_runs_nothing_and_holds_the_whole_report():
    page = made("report.html")
    assert "<script" not in page
    outside = re.findall(r'(?:src|href)="(?!data:|#)[^"]*"|url\((?!#|data:)[^)]*\)', page)
    assert outside == []
    assert page.count("<svg") == len(export.FIGURES)
    assert page.count("data:image/png;base64,") >= 3
    inside = unescape(page[page.index("The report as JSON") :].split("<pre>")[1].split("</pre>")[0])
    assert json.loads(inside)["memory"]["after_bytes"] == REPORT.after.total


def test_a_visitor_s_text_and_its_name_reach_no_file_as_markup():
    report = replace(REPORT, text=replace(REPORT.text, name=HOSTILE, notes=(HOSTILE,)))
    request = Request(text="A secret " + HOSTILE)
    session = first(request, [report], 1, False)
    tokens = tuple(f" secret{index}" for index in range(8))
    measured = a_map()._replace(query_tokens=tokens, key_tokens=tokens)
    page = export.make("report.html", session, STAMP, measured).decode()
    assert "secret3" not in page
    assert "<img src=x" not in page
    for name in ("report.html", "report.json", "report.csv"):
        assert "A secret" not in made(name, session)
    assert "A secret" not in recipe.link(session)
    assert report.text.sha256 in recipe.note(session)


def test_an_unknown_file_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'../secret'; choose one of report.json"):
        export.make("../secret", SESSION, STAMP, None)


@given(configs)
def test_the_python_recipe_holds_the_whole_configuration(config):
    code = recipe.python(Request(config=config))
    assert eval(re.search(r"config=(QuantConfig\(.*\)),\n", code)[1]) == config


@given(configs)
def test_the_command_holds_the_whole_configuration(config):
    given = shlex.split(recipe.command(Request(config=config)))[4:]
    command = get_command(app).commands["analyze"]
    with command.make_context("analyze", given) as context:
        for name, value in config.to_dict().items():
            assert context.params[name] == value


@given(configs, st.sampled_from(limits.SOURCES), st.integers(16, 8192))
def test_a_link_restores_the_form_it_was_taken_from(config, source, context):
    session = session_of(Request(context=context, source=source, config=config))
    query = dict(parse_qsl(recipe.link(session)[1:]))
    shown, request, ignored = permalink.read(query, SESSION, limits.LOCAL)
    assert ignored == []
    assert request == session.request
    assert shown.selected == session.selected


@given(st.dictionaries(st.sampled_from(permalink.PARAMETERS), st.text(max_size=20)))
def test_a_broken_link_never_fails_and_keeps_what_it_cannot_read(query):
    session, request, _ = permalink.read(query, SESSION, limits.SPACE)
    assert request.model in limits.SPACE.models
    assert request.text is None
    assert session.shown is not None


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ({"bits": "9"}, "bits"),
        ({"rotation": "maybe"}, "rotation"),
        ({"model": "../secret"}, "model"),
        ({"context": "7"}, "context"),
        ({"context": "9" * 400}, "context"),
        ({"layer": "99"}, "layer and head"),
        ({"source": "/etc/passwd"}, "source"),
    ],
)
def test_what_a_link_cannot_ask_for_is_named(query, name):
    *_, ignored = permalink.read(query, SESSION, limits.LOCAL)
    assert ignored == [name]


@pytest.mark.parametrize("own", [True, False], ids=["own text", "built-in text"])
def test_command_and_python_repeat_the_run_exactly(own, tmp_path, monkeypatch):
    from turbo_kv import analyze

    config = QuantConfig(bits=2, rotation=False, qjl=True, qjl_on="keys", seed=5)
    text = "It was the worst of times, é 🎈 and the best of codes. " * 20 if own else None
    request = Request(text=text, source="Prose", context=96, device="cpu", config=config)
    if own:
        request = replace(request, source=Request.source)
        (tmp_path / recipe.FILE).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    report = analyze("tiny", text, 96, "cpu", config, source=request.source)

    program, *words = shlex.split(recipe.command(request))[2:]
    assert program == "turbo_kv"
    assert CliRunner().invoke(app, words).exit_code == 0
    by_command = Report.from_dict(json.loads((tmp_path / "report.json").read_text()))
    names: dict = {}
    exec(recipe.python(request), names)
    for again in (by_command, names["report"]):
        assert again.text == report.text
        assert again.config == report.config
        assert again.after == report.after
        np.testing.assert_array_equal(again.grid("attention_kl"), report.grid("attention_kl"))


@pytest.fixture
def exports(stored, calls) -> ExportActions:
    return ExportActions(limits.LOCAL, stored, engine.Captures(1))


def asked(name: str) -> gr.SelectData:
    return gr.SelectData(None, {"index": 0, "value": name})


def test_a_download_carries_the_file_and_says_so(exports):
    update = exports.download(None, asked("report.csv"))["export"]
    assert update["file"]["name"] == "turbo_kv-report.csv"
    assert update["file"]["type"] == "text/csv"
    assert "Saved turbo_kv-report.csv" in update["said"]
    assert exports.download(None, asked("report.csv"))["export"]["at"] != update["at"]


def test_the_stored_result_is_exported_with_the_stamp_it_was_made_with():
    stored = precomputed.read()
    exports = ExportActions(limits.LOCAL, stored, engine.Captures(1))
    session = stored.session
    assert json.loads(export.make("report.json", session, stored.stamp, None))["stamp"]["torch"]
    update = exports.download(None, asked("report.html"))
    assert update["export"]["file"]["type"] == "text/html"


def test_the_selected_head_s_map_is_exported_while_its_text_is_kept(exports, stored):
    assert "Saved" in exports.download(None, asked("attention-map.png"))["export"]["said"]
    unkept = replace(stored.session, stored=frozenset())
    update = exports.download(unkept, asked("attention-map.png"))["export"]
    assert update["file"] is None
    assert "press Run again" in update["said"]


def test_an_unknown_download_is_said(exports):
    update = exports.download(None, asked("../<secret>"))["export"]
    assert update["file"] is None
    assert "../&lt;secret&gt;" in update["said"].replace("&#x27;", "'")


def test_a_link_without_parameters_of_ours_changes_nothing(exports):
    assert exports.open_link({"__theme": "dark", "utm_source": "x"}) == {}


def test_a_link_sets_the_form_and_waits_for_run(exports, calls):
    page = exports.open_link({"bits": "4", "context": "512", "qjl": "on", "seed": "x"})
    assert (page["bits"], page["context"], page["qjl"], page["seed"]) == (4, 512, True, 0)
    assert "Press Run to measure it" in page["status"]
    assert "Not used, since it is no choice here: seed." in page["status"]
    assert "session" not in page
    assert calls == []


def test_a_link_to_a_stored_setting_shows_it(exports, calls):
    page = exports.open_link({"centering": "off", "layer": "1", "head": "2"})
    assert page["session"].config.centering == "off"
    assert page["session"].selected == (1, 2)
    assert "Without centring" in page["verdict"]
    assert calls == []
