"""A pinned result stays beside every later one, until it is unpinned."""

import gradio as gr
import pytest
import reports
from test_actions import chosen, merged, run, switch

from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui import pinned, run_tab
from turbo_kv.ui.session import Pin

GRIDS = [pinned.PREFIX + name for name in run_tab.GRIDS]


def test_nothing_is_pinned_at_first(actions):
    page = merged(run(actions))
    assert all(page[name] == gr.update(visible=False) for name in (*GRIDS, "pinned", "unpin"))
    assert page["key_grid"]["caption"] == ""


def test_a_pinned_result_stays_beside_switches_runs_and_selections(actions):
    session = actions.pin(None)["session"]
    before = session.shown
    session = merged(switch(actions, session, bits=4))["session"]
    session = merged(run(actions, session, bits=2))["session"]
    assert session.pinned == Pin(before, 0)
    page = merged(actions.select_query(session, chosen(1, 2)))
    for name in GRIDS:
        assert page[name]["visible"]
        assert "Pinned: the precomputed result" in page[name]["value"]["name"]
    assert page["pinned_attention_grid"]["value"]["selected"] == [1, 2]
    assert page["key_grid"]["caption"] == "Now"
    assert "Bits 3, Centring mean" in page["pinned"]["value"]
    assert "Bits 2, Centring mean" in page["pinned"]["value"]


def test_unpinned_it_is_gone(actions):
    session = actions.pin(None)["session"]
    page = actions.unpin(session)
    assert page["session"].pinned is None
    assert page["pinned"] == gr.update(visible=False)


def test_a_pinned_model_without_the_selected_head_marks_its_first(stored):
    session = stored.session.select(3, 5)
    model = reports.report().model.__class__("small", 1, 2, 1, 64, "cpu", "float32", 1)
    small = reports.report(finished=1).__class__(
        **vars(reports.report(finished=1)) | {"model": model}
    )
    assert pinned._mark(session, Pin(small, 1)) == (0, 0)
    assert pinned._mark(session, Pin(session.shown, 1)) == (3, 5)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("off", "mean", "times closer"),
        ("mean", "off", "times further"),
        ("mean", "mean", "as far from exact"),
    ],
)
def test_the_finding_has_every_direction(before, after, said):
    old, new = (reports.report(QuantConfig(centering=name)) for name in (before, after))
    assert said in pinned.finding(old, new)
    assert "This is the result shown" in pinned.finding(old, old)


def test_names_from_outside_are_text(stored):
    report = stored.session.shown
    named = report.__class__(
        **vars(report) | {"text": report.text.__class__("<img src=x>", "0" * 64, 1)}
    )
    assert "<img" not in pinned.html(Pin(named, 2), stored.session)
