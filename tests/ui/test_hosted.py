"""A server for strangers: its limits, its deadlines, what it keeps of whom, and borrowed GPUs."""

import json
import sys
from types import SimpleNamespace
from urllib.error import HTTPError
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import pytest
import reports

from turbo_kv.measure.frozen import freeze, thaw
from turbo_kv.measure.report import Request
from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui import engine, limits
from turbo_kv.ui.deadline import Deadline
from turbo_kv.ui.session import RUNS, first

TEXT = "The quick brown fox jumps over the lazy dog. " * 12


@pytest.fixture
def hosted(monkeypatch) -> limits.Limits:
    monkeypatch.setenv("SPACE_ID", "someone/turbo_kv")
    return limits.here()


@pytest.fixture
def clock(monkeypatch):
    return [0.0]


def test_a_space_offers_less_than_a_machine_of_one_s_own(hosted, monkeypatch):
    assert hosted is limits.SPACE
    assert set(hosted.models) < set(limits.LOCAL.models)
    for name in ("context", "new_tokens", "text_bytes", "capture_bytes"):
        assert getattr(hosted, name) < getattr(limits.LOCAL, name)
    assert min(hosted.stage_seconds, hosted.per_minute, hosted.all_per_minute) > 0
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    assert limits.here() is limits.ZERO_GPU
    monkeypatch.delenv("SPACE_ID")
    assert limits.here() is limits.LOCAL


def test_no_host_takes_a_path_for_a_model(hosted, tmp_path):
    for host in (hosted, limits.LOCAL):
        with pytest.raises(limits.FieldError, match="Choose one of tiny"):
            limits._model(str(tmp_path), host)


def test_a_call_past_the_queue_is_refused(app_url):
    events = json.load(urlopen(f"{app_url}/config", timeout=60))["dependencies"]
    queued = [event["id"] for event in events if event["queue"] and event["inputs"]]
    assert queued
    for event in queued:
        body = json.dumps({"data": [], "fn_index": event, "session_hash": "s"}).encode()
        headers = {"Content-Type": "application/json"}
        direct = HttpRequest(f"{app_url}/gradio_api/run/predict", body, headers)
        with pytest.raises(HTTPError) as refused:
            urlopen(direct, timeout=60)
        assert refused.value.code in (404, 422)
        assert b"queue" in refused.value.read()


def test_work_ends_at_its_deadline(clock):
    deadline = Deadline(10, "Reading", lambda: clock[0])
    told = []
    progress = deadline.watching(lambda *step: told.append(step))
    progress(0.1, "a")
    clock[0] = 10.5
    with pytest.raises(ValueError, match=r"^Reading took longer than the 10 s that this server"):
        progress(0.2, "b")
    assert told == [(0.1, "a")]
    Deadline(None, "Reading", lambda: clock[0]).check()


def test_a_stream_past_its_deadline_is_closed(clock):
    closed = []

    def steps():
        try:
            for step in range(9):
                clock[0] += 4
                yield step
        finally:
            closed.append(True)

    stream = Deadline(10, "Generating", lambda: clock[0]).over(steps())
    assert [next(stream), next(stream), next(stream)] == [0, 1, 2]
    with pytest.raises(ValueError, match=r"^Generating took longer"):
        next(stream)
    assert closed == [True]


def test_the_engine_keeps_to_the_hosts_deadline(hosted, monkeypatch):
    captures = engine.Captures(2)
    request = Request(text=TEXT, context=64, device="cpu")
    monkeypatch.setattr(limits, "here", lambda: SimpleNamespace(stage_seconds=-1))
    with pytest.raises(ValueError, match=r"^Loading and reading took longer"):
        captures.prepare(request, lambda *_: None)
    assert captures.find(request) is None


def test_captures_are_bounded_by_bytes(monkeypatch):
    size = 700
    monkeypatch.setattr(
        engine, "_read", lambda *_: SimpleNamespace(capture=SimpleNamespace(nbytes=size))
    )
    captures = engine.Captures(limit=9, nbytes=1_500)
    requests = [Request(context=16 + index) for index in range(4)]
    for request in requests:
        captures.prepare(request, lambda *_: None)
    kept = [captures.find(request) is not None for request in requests]
    assert kept == [False, False, True, True]
    size = 9_999
    captures.prepare(Request(context=99), lambda *_: None)
    assert captures.find(Request(context=99)) is not None, "the newest stays, whatever its size"


def test_a_visit_remembers_so_many_settings():
    session = first(Request(), [reports.report()], number=0, precomputed=True)
    for seed in range(RUNS + 10):
        config = QuantConfig(seed=seed)
        session = session.show(type(session.shown)(**session.shown.__dict__ | {"config": config}))
    assert len(session.runs) == RUNS
    assert session.shown.config == config
    assert session.before.config.seed == RUNS + 8


def test_a_prepared_text_crosses_a_process_border_unchanged():
    from turbo_kv.measure.analyze import measure, prepare

    prepared = prepare(Request(text=TEXT, context=64, device="cpu", dtype="fp32"))
    crossed = thaw(freeze(prepared))
    reports = [list(measure(each, QuantConfig()))[-1].to_dict() for each in (prepared, crossed)]
    for report in reports:
        del report["timing"]
    assert reports[0] == reports[1]
    assert crossed.decode(40) == prepared.decode(40)


def test_a_borrowed_gpu_is_declared_with_its_time(monkeypatch):
    declared = []

    def gpu(duration):
        declared.append(duration)
        return lambda function: function

    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=gpu))
    assert limits.on_gpu(len) is len
    assert declared == []
    monkeypatch.setenv("SPACES_ZERO_GPU", "1")
    assert limits.on_gpu(len) is len
    assert declared == [60]


def test_reading_on_a_borrowed_gpu_gives_the_same_report(monkeypatch):
    request = Request(text=TEXT, context=64, device="cpu", dtype="fp32")
    here = engine._read(request, lambda *_: None)
    monkeypatch.setenv("SPACES_ZERO_GPU", "1")
    there = engine._read(request, lambda *_: None)
    measured = [list(engine.measure(each, QuantConfig()))[-1] for each in (here, there)]
    divergences = [report.grid("attention_kl").tolist() for report in measured]
    assert divergences[0] == divergences[1]
    assert here.capture.layers[0].keys.equal(there.capture.layers[0].keys)
