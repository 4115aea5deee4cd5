"""The heatmap's state: scale, colours, marks, selection, pending cells."""

import json

import pytest
import reports
from hypothesis import given
from hypothesis import strategies as st

from turbo_kv.figures.style import LEVELS
from turbo_kv.ui import grid, run_tab


@given(st.floats(1e-6, 1e2), st.floats(1e-6, 1e2))
def test_more_damage_is_never_brighter(a, b):
    levels = [grid.ATTENTION.cell(value)[0] for value in sorted((a, b))]
    assert levels[0] >= levels[1]
    assert all(0 <= level < LEVELS for level in levels)


def test_the_ends_of_the_scale_are_its_ends():
    assert grid.ATTENTION.cell(10.0) == [0, "10", 0]
    assert grid.ATTENTION.cell(0.0001)[0] == LEVELS - 1
    assert grid.ATTENTION.cell(0.0)[0] == LEVELS - 1
    assert grid.ATTENTION.cell(11.0)[2] == 1
    assert grid.KEYS.cell(0.9) == [0, "0.900", 0]
    assert grid.KEYS.cell(1.0)[0] == LEVELS - 1


def test_layers_not_measured_yet_are_pending_at_full_shape():
    state = run_tab.grids(reports.report(finished=1), (0, 0))["key_grid"]
    assert state["pending"]
    assert [[cell is None for cell in row] for row in state["rows"]] == [[False, *[True] * 3]] * 2


def test_a_query_head_selects_its_kv_head():
    states = run_tab.grids(reports.report(), (2, 4))
    assert states["attention_grid"]["selected"] == [2, 4]
    assert states["key_grid"]["selected"] == states["value_grid"]["selected"] == [2, 1]


def test_a_layer_costs_little_to_send():
    assert len(json.dumps(run_tab.grids(reports.report(), (0, 0)))) < 3_000


@pytest.mark.parametrize("metric", run_tab.GRIDS.values(), ids=lambda metric: metric.name)
def test_the_legend_marks_both_ends(metric):
    html = grid.legend(metric)
    assert "left:0.0%" in html
    assert "left:100.0%" in html
