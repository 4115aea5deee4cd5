"""`app.py`: a plain word to an old Python, and an app that keeps to itself."""

import ast
import os
import runpy
import sys
from pathlib import Path

import gradio as gr
import pytest

from turbo_kv.ui import build, limits, precomputed, sample
from turbo_kv.ui.actions import Actions

APP = Path(__file__).parents[2] / "app.py"


def test_an_old_python_can_read_the_file_as_far_as_the_word_to_it(monkeypatch):
    ast.parse(APP.read_text(), feature_version=(3, 7))
    monkeypatch.setattr(sys, "version_info", (3, 10, 12))
    with pytest.raises(SystemExit, match=r"turbo_kv needs Python 3\.11 or newer; this is 3\."):
        runpy.run_path(str(APP), run_name="app")


def test_the_app_sends_nothing_home(monkeypatch):
    for name in ("GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "intranet")
    monkeypatch.setenv("no_proxy", "")
    runpy.run_path(str(APP), run_name="app")
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert os.environ["NO_PROXY"] == "intranet,127.0.0.1,localhost"
    assert os.environ["no_proxy"] == "127.0.0.1,localhost"
    assert not build.LAUNCH["share"]
    assert not build.LAUNCH["run_history"]
    assert not build.LAUNCH["enable_monitoring"]


def test_the_server_sums_up_none_of_its_events(monkeypatch):
    for name in ("MAX_EVENTS", "CACHE_FREQUENCY"):
        monkeypatch.setenv(f"GRADIO_ANALYTICS_{name}", "")
        monkeypatch.delenv(f"GRADIO_ANALYTICS_{name}")
    runpy.run_path(str(APP), run_name="app")
    queue = gr.Blocks(analytics_enabled=False).queue()._queue
    queue.events_recorded = 1_000_000
    assert queue.compute_analytics_summary([{"function": "run"}]) == {"functions": {}}
    assert queue.ANALYTICS_MAX_EVENTS == 100


def test_the_page_builds_with_its_endpoints():
    stored = precomputed.read()
    page = build.build(Actions(limits.LOCAL, stored), stored, sample.read(), limits.LOCAL)
    assert list(page.get_api_info()["named_endpoints"]) == ["/analyze", "/generate", "/plan"]
    assert not page.analytics_enabled


def test_the_stored_result_is_complete():
    session = precomputed.read().session
    assert session.precomputed
    assert session.shown.complete
    assert session.shown.model.name == "tiny"
