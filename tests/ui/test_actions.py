"""Run, switch, select, Stop and upload, as plain generators without a page."""

import gradio as gr
import pytest

from turbo_kv.measure.report import Request
from turbo_kv.models.text import SOURCES
from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui import actions as module
from turbo_kv.ui import engine, form, limits

DEFAULTS = {
    **QuantConfig().to_dict(),
    "model": "tiny",
    "source": limits.SOURCES[0],
    "text": "",
    "context": 2048,
    "device": "auto",
}


def run(actions, session=None, **changes):
    values = DEFAULTS | changes
    return list(actions.run(session, *(values[name] for name in form.FIELDS)))


def switch(actions, session=None, **changes):
    values = DEFAULTS | changes
    return list(actions.switch(session, *(values[name] for name in form.SWITCHES)))


def merged(updates):
    return {name: value for update in updates for name, value in update.items()}


def chosen(layer, head):
    return gr.SelectData(None, {"index": [layer, head], "value": None})


def test_a_run_reads_once_measures_what_was_asked_and_its_twin(actions, calls):
    page = merged(run(actions))
    assert calls == ["prepare tiny 2048", "measure mean 3", "measure off 3", "map 3 5"]
    assert "Done · run 1" in page["status"]
    assert page["session"].config == QuantConfig()
    assert page["session"].before.config.centering == "off"
    assert not page["session"].precomputed


def test_the_grids_fill_in_layer_by_layer_at_full_shape(actions, monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0)
    grids = [update["key_grid"] for update in run(actions) if "key_grid" in update]
    unmeasured = [sum(cell is None for row in grid["rows"] for cell in row) for grid in grids]
    assert unmeasured[:4] == [6, 4, 2, 0]
    assert {len(grid["rows"][0]) for grid in grids} == {4}


def test_a_growing_grid_has_no_finding_yet(actions, monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0)
    said = [update["key_grid_finding"] for update in run(actions) if "key_grid_finding" in update]
    assert "Measured 1 of 4 layers." in said[0]
    assert "worst in layer" not in "".join(said[:-1])
    assert "worst in layer" in said[-1]


def test_fields_are_out_of_reach_during_a_run_and_back_after_it(actions):
    updates = run(actions)
    assert updates[0]["run"] == gr.update(interactive=False)
    assert updates[0]["stop"] == gr.update(interactive=True)
    assert merged(updates)["run"] == gr.update(interactive=True)
    assert merged(updates)["stop"] == gr.update(interactive=False)


def test_a_switch_to_a_measured_setting_measures_nothing(actions, calls):
    page = merged(switch(actions, centering="off"))
    assert calls == []
    assert page["session"].config.centering == "off"
    assert "Centring mean → off" in page["status"]


def test_a_switch_measures_again_without_reading_again(actions, calls):
    session = merged(run(actions))["session"]
    calls.clear()
    page = merged(switch(actions, session, bits=4))
    assert calls == ["measure mean 4", "map 3 5"]
    assert page["session"].number == 2
    assert page["session"].before.config.bits == 3


def test_a_switch_before_the_first_run_reads_the_precomputed_text(actions, calls):
    switch(actions, bits=2)
    assert calls[0] == "prepare tiny 2048"


def test_a_selected_kv_cell_opens_the_worst_query_head_that_reads_it(actions):
    session = merged(actions.select_kv(None, chosen(1, 0)))["session"]
    assert session.selected == (1, 2)
    session = merged(actions.select_query(session, chosen(2, 4)))["session"]
    assert session.selected == (2, 4)


@pytest.mark.parametrize("cell", [(4, 0), (-1, 0), (0, 6)])
def test_a_cell_that_does_not_exist_is_refused(actions, cell):
    with pytest.raises(ValueError, match=r"is not in tiny"):
        list(actions.select_query(None, chosen(*cell)))


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"source": limits.OWN_TEXT, "text": ""}, "text", "empty"),
        ({"source": limits.OWN_TEXT, "text": "x" * 1_000_001}, "text", "1,000,001 bytes"),
        ({"context": 8193}, "context", "16 to 8,192"),
        ({"context": 2.5}, "context", "whole number"),
        ({"context": None}, "context", "whole number"),
        ({"source": "/etc/passwd"}, "text", "Choose one of Python"),
        ({"model": "../secret"}, "model", "Choose one of tiny"),
        ({"device": "tpu"}, "device", "auto, cpu"),
        ({"bits": 5}, "bits", "choose one of 2, 3, 4"),
        ({"seed": -1}, "seed", "0 to 2147483647"),
    ],
)
def test_bad_input_is_said_at_its_field_and_nothing_runs(actions, calls, changes, field, said):
    (update,) = run(actions, **changes)
    assert said in update[f"{field}_message"]
    assert 'role="alert"' in update[f"{field}_message"]
    assert "verdict" not in update
    assert calls == []


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ("Your text has 1 token; a measurement needs at least 16.", "text"),
        ("device 'mps' is not available; choose one of auto, cpu", "device"),
        ("Qwen2.5-7B (15 GB) is not in the cache, and the hub cannot be reached.", "model"),
    ],
)
def test_a_failed_run_puts_the_previous_result_back(actions, monkeypatch, message, field):
    def fail(self, request, progress):
        progress(0, "Loading")
        raise ValueError(message)

    monkeypatch.setattr(engine.Captures, "prepare", fail)
    page = merged(run(actions))
    assert message.split(";")[0].replace("'", "&#x27;") in page[f"{field}_message"]
    assert "previous run" in page["verdict"]
    assert page["run"] == gr.update(interactive=True)
    assert "session" not in page


def test_stop_puts_the_previous_result_and_its_switches_back(actions):
    page = actions.stop(None)
    assert "Stopped" in page["status"]
    assert "previous run" in page["verdict"]
    assert page["centering"] == "mean"


def test_closing_a_run_while_it_reads_ends_the_reading(actions, calls):
    running = actions.run(None, *(DEFAULTS[name] for name in form.FIELDS))
    next(running)
    next(running)
    running.close()
    assert not any(call.startswith("measure") for call in calls)


def test_an_uploaded_text_becomes_the_own_text(actions, tmp_path):
    file = tmp_path / "story.txt"
    file.write_bytes(b"\xef\xbb\xbfOnce upon a time")
    page = actions.upload(str(file))
    assert page["source"] == limits.OWN_TEXT
    assert page["text"]["value"] == "Once upon a time"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("run.exe", b"MZ", ".exe is not read"),
        ("latin.txt", "é".encode("latin-1"), "not UTF-8"),
        ("long.txt", b"x" * 1_000_001, "1,000,001 bytes"),
    ],
)
def test_an_unreadable_upload_is_said_at_the_text(actions, tmp_path, name, content, said):
    file = tmp_path / name
    file.write_bytes(content)
    assert said in actions.upload(str(file))["text_message"]


def test_a_request_is_what_the_form_says():
    form_values = DEFAULTS | {"source": limits.OWN_TEXT, "text": "Hello <b>", "context": 64.0}
    request = limits.check(form_values, limits.LOCAL)
    assert request == Request(text="Hello <b>", context=64, config=QuantConfig())


def test_an_example_text_is_asked_for_by_name():
    request = limits.check(DEFAULTS | {"source": "Prose", "text": "ignored"}, limits.LOCAL)
    assert (request.text, request.source) == (None, "Prose")
    assert set(limits.SOURCES) == set(SOURCES)


def test_a_space_offers_less(monkeypatch):
    monkeypatch.setenv("SPACE_ID", "someone/turbo_kv")
    with pytest.raises(limits.FieldError, match=r"16 to 2,048"):
        limits.check(DEFAULTS | {"context": 4096}, limits.here())
