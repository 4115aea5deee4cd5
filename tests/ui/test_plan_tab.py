"""Tab Plan: its sums are the planner's, its chart is honest, its sentences have every form."""

import json
import re
from base64 import b64decode
from html import unescape
from xml.etree import ElementTree

import gradio as gr
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo_kv.measure.planner import GIB, PlanRequest, plan_sizes
from turbo_kv.models.catalog import SIZES
from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui import limits, plan_chart, plan_tab, plan_words

DEFAULTS = {
    **QuantConfig().to_dict(),
    "plan_context": 32_768,
    "plan_batch": 8,
    "plan_memory": 24,
    "plan_model": "Qwen2.5-7B",
}


def planned(**changes):
    values = DEFAULTS | changes
    return plan_tab.plan(*(values[name] for name in plan_tab.FIELDS))


def request(**changes):
    return limits.planning(DEFAULTS | changes)


@given(st.integers(1, limits.LONGEST_PLAN), st.integers(1, 64), st.integers(1, 1000))
def test_a_bar_is_as_long_as_its_bytes_and_cut_bars_say_so(tokens, batch, memory):
    asked = PlanRequest(tokens, batch, memory * GIB)
    for plan in plan_sizes(asked):
        chart = plan_chart.html([plan], asked)
        widths = [float(width) for width in re.findall(r"width:([\d.]+)%", chart)]
        end = plan_chart.BEYOND * asked.memory
        totals = [
            plan.card.weights_bytes + cache for cache in (plan.before_bytes, plan.after.total)
        ]
        assert sum(widths[:2]) == pytest.approx(100 * min(totals[0], end) / end, abs=0.01)
        assert sum(widths[2:]) == pytest.approx(100 * min(totals[1], end) / end, abs=0.01)
        assert chart.count("plan-cut") == sum(total > end for total in totals)


@given(st.integers(1, limits.LONGEST_PLAN), st.integers(1, 64), st.integers(1, 1000))
def test_what_fits_in_bf16_fits_packed_and_the_mark_agrees_with_the_bytes(tokens, batch, memory):
    asked = PlanRequest(tokens, batch, memory * GIB)
    for plan in plan_sizes(asked):
        assert plan_words.fits(plan, packed=True) or not plan_words.fits(plan, packed=False)
        whole = plan.card.weights_bytes + plan.after.total
        assert plan_words.fits(plan, packed=True) == (whole <= asked.memory)


def test_the_sums_multiply_to_what_they_say():
    asked = request()
    plan = next(plan for plan in plan_sizes(asked) if plan.card.name == "Qwen2.5-7B")
    exact, packed, longest = plan_words.formula(plan, asked)
    factors = [int(f.replace(",", "")) for f in re.findall(r"[\d,]+(?= [a-zB×K])", exact)]
    assert factors[0] * factors[1] * factors[2] * factors[3] * factors[4] * factors[5] * 2 == (
        plan.before_bytes
    )
    parts = [float(part.replace(",", "")) for part in re.findall(r"[a-z] ([\d,.]+) [+=]", packed)]
    assert sum(parts) == pytest.approx(plan.after.total / 2**20, abs=0.02)
    assert f"{plan.longest_after:,} packed" in longest


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "Packing adds Qwen2.5-7B"),
        ({"plan_batch": 1}, "The same sizes hold 1 text of 32,768 tokens in 24 GiB"),
        ({"plan_memory": 1, "plan_context": 131_072}, "No size of Qwen2.5 holds"),
        ({"plan_memory": 1.2, "plan_batch": 1}, "in bf16 none does"),
    ],
)
def test_the_finding_says_what_packing_gains(changes, said):
    asked = request(**changes)
    assert said in plan_words.fitting(plan_sizes(asked), asked)


@pytest.mark.parametrize(
    ("changes", "model", "said"),
    [
        ({}, "Qwen2.5-7B", "Memory limits it both times"),
        ({"plan_batch": 1}, "Qwen2.5-7B", "Memory does not limit it"),
        ({"plan_batch": 4}, "Qwen2.5-7B", "Packed, memory no longer limits it"),
        ({}, "Qwen2.5-72B", "weights alone take 135.43 GiB"),
    ],
)
def test_the_longest_context_names_what_limits_it(changes, model, said):
    asked = request(**changes)
    plan = next(plan for plan in plan_sizes(asked) if plan.card.name == model)
    assert said in plan_words.longest(plan, asked)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("plan_context", 131_073, "choose 1 to 131,072"),
        ("plan_context", 0, "choose 1 to 131,072"),
        ("plan_context", 10.5, "whole number"),
        ("plan_context", None, "whole number"),
        ("plan_batch", 65, "choose 1 to 64"),
        ("plan_memory", 0, "1 to 10,000 GiB"),
        ("plan_memory", float("nan"), "1 to 10,000 GiB"),
        ("plan_memory", "much", "must be a number"),
        ("plan_memory", True, "must be a number"),
    ],
)
def test_an_impossible_input_is_said_at_its_field_and_the_plan_stays(field, value, said):
    update = planned(**{field: value})
    assert said in unescape(update[f"{field}_message"])
    assert not {"plan_finding", "plan_chart"} & set(update)


def test_a_switch_of_the_run_bar_that_cannot_be_used_leaves_the_plan():
    assert set(planned(bits=9)) == set(plan_tab.MESSAGES)


def test_every_size_is_in_chart_and_table_and_the_switches_count():
    update = planned()
    for card in SIZES:
        assert update["plan_chart"].count(card.name) >= 2
    assert "QJL signs" not in update["plan_chart"]
    assert "QJL signs" in planned(qjl=True)["plan_chart"]


def taken(name, **changes):
    values = DEFAULTS | changes
    event = gr.SelectData(None, {"index": 0, "value": name})
    return plan_tab.download(*(values[field] for field in plan_tab.FIELDS), event)["plan_files"]


def test_a_plan_can_be_taken_along():
    data = json.loads(b64decode(taken("plan.json", plan_batch=2)["file"]["data"]))
    assert [each["model"] for each in data["models"]] == [card.name for card in SIZES]
    assert data["models"] == [each.to_dict() for each in plan_sizes(request(plan_batch=2))]
    assert b64decode(taken("plan.png")["file"]["data"]).startswith(b"\x89PNG")
    drawing = b64decode(taken("plan.svg")["file"]["data"]).decode()
    assert ElementTree.fromstring(drawing).tag.endswith("svg")
    assert "28.19, does not fit" in drawing
    assert "16.92, fits" in drawing


@pytest.mark.parametrize(("name", "memory"), [("../secret", 24), ("plan.json", -1)])
def test_what_cannot_be_taken_along_is_said(name, memory):
    update = taken(name, plan_memory=memory)
    assert update["file"] is None
    assert "Not saved: " in update["said"]
