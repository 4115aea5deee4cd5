"""The named endpoints, as a program calls them on a running page."""

import re
from pathlib import Path

import gradio as gr
import pytest
import reports
from gradio_client import Client
from gradio_client.exceptions import AppError

from turbo_kv.measure.planner import PlanRequest, plan_sizes
from turbo_kv.measure.report import Report
from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui import api, engine, limits

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def client(app_url):
    return Client(app_url, verbose=False)


@pytest.fixture
def endpoints(calls, monkeypatch) -> api.Api:
    monkeypatch.setattr(engine, "stamp", lambda: {"date": "2026-01-01"})
    return api.Api(limits.LOCAL, engine.Captures(1))


def called(function, **changes):
    wrapped = api.endpoint(function)
    parameters = wrapped.__signature__.parameters
    values = {name: parameter.default for name, parameter in parameters.items()} | changes
    answer = wrapped(*values.values())
    return answer if isinstance(answer, dict) else list(answer)[-1]


def read(answer: dict) -> Report:
    return Report.from_dict(answer | {"path": answer["ran"]})


@pytest.mark.parametrize("name", ["analyze", "generate", "plan"])
def test_every_parameter_is_typed_and_documented(endpoints, name):
    wrapped = api.endpoint(getattr(endpoints, name))
    parameters = wrapped.__signature__.parameters
    assert set(QuantConfig.__dataclass_fields__) < set(parameters)
    assert set(parameters) <= set(wrapped.__annotations__)
    for parameter in parameters:
        assert re.search(rf"^ *{parameter}: \S", wrapped.__doc__, re.MULTILINE), parameter


def test_analyze_measures_what_is_asked(endpoints, calls):
    report = called(endpoints.analyze, bits=2, centering="off", context=64)
    assert calls == ["prepare tiny 64", "measure off 2"]
    assert read(report).config == QuantConfig(bits=2, centering="off")
    assert len(report["memory"]["per_layer"]) == reports.LAYERS
    assert report["stamp"]["date"]


def test_steps_come_before_the_report_and_rise(endpoints):
    wrapped = api.endpoint(endpoints.analyze)
    values = [parameter.default for parameter in wrapped.__signature__.parameters.values()]
    *steps, _ = wrapped(*values)
    assert [step["doing"] for step in steps] == [
        *(f"Reading chunk {index}" for index in range(3)),
        *(f"Layer {count} of {reports.LAYERS}" for count in range(1, reports.LAYERS + 1)),
    ]
    assert [step["done"] for step in steps[-2:]] == [1 - 1 / reports.LAYERS, 1]


def test_a_text_of_one_s_own_goes_before_a_built_in_one(endpoints, calls, monkeypatch):
    asked = []
    monkeypatch.setattr(engine.Captures, "prepare", lambda self, r, _: asked.append(r))
    called(endpoints.analyze, text="Hello")
    called(endpoints.analyze, source="Prose")
    assert [(request.text, request.source) for request in asked] == [
        ("Hello", limits.SOURCES[0]),
        (None, "Prose"),
    ]


def test_plan_is_the_planner_s(endpoints):
    plan = called(endpoints.plan, context=1000, batch=2, memory=80, qjl=True)
    request = PlanRequest(1000, 2, 80 * 2**30, QuantConfig(qjl=True))
    assert plan["models"] == [each.to_dict() for each in plan_sizes(request)]


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("analyze", {"model": "../secret"}, "Choose one of tiny"),
        ("analyze", {"context": 10**9}, "16 to 8,192"),
        ("analyze", {"bits": 7}, "choose one of 2, 3, 4"),
        ("analyze", {"text": "x" * 1_000_001}, "1,000,001 bytes"),
        ("generate", {"prompt": " "}, "Your prompt is empty"),
        ("generate", {"prompt": "Hi", "new_tokens": 10**6}, "1 to 256"),
        ("plan", {"memory": -1}, "1 to 10,000 GiB"),
    ],
)
def test_what_cannot_be_used_is_said_and_nothing_runs(endpoints, calls, name, changes, said):
    with pytest.raises(gr.Error, match=re.escape(said)):
        called(getattr(endpoints, name), **changes)
    assert calls == []


def test_the_readme_s_example_runs_against_a_live_page(app_url, capsys):
    (code,) = [
        code
        for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL)
        if "gradio_client" in code
    ]
    names: dict = {}
    exec(code.replace("http://127.0.0.1:7860/", app_url), names)
    assert read(names["report"]).config.bits == 4
    assert names["report"]["tokens"] == 256
    assert "Qwen2.5-7B" in capsys.readouterr().out


def test_generate_answers_with_both_streams(client):
    asked = {"new_tokens": 2, "exact_window": 16}
    said = client.predict("The city was", **asked, api_name="/generate")
    assert [len(said[stream]["per_step"]) for stream in ("exact", "packed")] == [2, 2]
    assert said["request"]["exact_window"] == 16
    assert said["config"]["bits"] == 3


def test_a_caller_learns_what_was_wrong(client):
    with pytest.raises(AppError, match="choose one of 2, 3, 4"):
        client.predict(bits=9, api_name="/analyze")


def test_nothing_else_is_offered(client):
    offered = client.view_api(return_format="dict", print_info=False)
    assert set(offered["named_endpoints"]) == {"/analyze", "/generate", "/plan"}
    assert offered["unnamed_endpoints"] == {}
    for name in ("/run", "/switch", "/compare", "/download"):
        with pytest.raises(ValueError, match="Cannot find a function"):
            client.predict(api_name=name)
