"""A chart puts values where its axes say, hides nothing, and shows words as words."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo_kv.figures.chart import Axis, Plot, legend, table

FLAT = Axis("share", 0, 4, [(0, "0"), (4, "4")])
LOG = Axis("nats", 1e-3, 10, [(1e-3, "0.001"), (10, "10")], log=True)
PLOT = Plot(FLAT, FLAT)


def numbers(shape: str) -> list[float]:
    path = re.search(r' d="([^"]*)"', shape).group(1)
    return [float(number) for number in re.findall(r"-?[\d.]+", path)]


@given(st.floats(0, 4), st.floats(0, 4))
def test_places_keep_order_and_proportion(a, b):
    assert FLAT.place(a) - FLAT.place(b) == pytest.approx(25 * (a - b), abs=1e-9)


@given(st.floats(1e-9, 1e9))
def test_a_value_beyond_the_axis_stands_at_its_end(value):
    for axis in (FLAT, LOG):
        assert 0 <= axis.place(value) <= 100
    assert LOG.place(0.1) == pytest.approx(50)


def test_a_bar_starts_at_zero_and_its_height_is_its_value():
    assert numbers(PLOT.bars(np.array([0]), np.array([2]), np.array([3]), "packed")) == [
        *(0, 100),
        25,
        50,
        100,
    ]


def test_lines_and_dots_go_through_their_points():
    assert numbers(PLOT.line([0, 4], [0, 4], "exact")) == [0, 100, 100, 0]
    assert numbers(PLOT.dots([1, 2], [4, 2], "exact")) == [25, 0, 0, 50, 50, 0]
    assert numbers(PLOT.upright([1], "boundary")) == [25, 0, 100]
    assert numbers(PLOT.level(1, "theory")) == [0, 75, 100]


def test_a_chart_says_in_words_what_it_shows_and_its_units():
    html = PLOT.html("Title <b>", 'three "channels" & more', [], [PLOT.label(1, 1, "<i>")])
    assert 'aria-label="three &quot;channels&quot; &amp; more"' in html
    assert "Title &lt;b&gt;" in html
    assert "&lt;i&gt;" in html
    assert html.count("share") == 2


def test_a_label_turns_to_where_there_is_room():
    assert "plot-label right" in PLOT.label(1, 1, "low")
    assert "plot-label left" in PLOT.label(3, 1, "high")


def test_words_in_tables_and_legends_are_words():
    html = table("Numbers", ("<b>", "n"), [("<script>", "1")], "<i>")
    html += legend(("line", "exact", "<u>"))
    assert "<script>" not in html
    assert "<u>" not in html
    assert "<i>" not in html
    assert html.count("<tr>") == 2
    assert 'tabindex="0"' in html  # a table that scrolls is reached by the keyboard
