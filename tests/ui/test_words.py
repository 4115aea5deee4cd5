"""The sentences and numbers of the page: true to the report, in every form they have."""

import re
from dataclasses import replace

import numpy as np
import pytest
import reports
from hypothesis import given
from hypothesis import strategies as st

from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui import findings, headline, layer_table, memory_bar, numbers, verdict, wording
from turbo_kv.ui.engine import Map

MEAN, OFF = reports.report(), reports.report(QuantConfig(centering="off"))


@given(st.floats(0, 1, exclude_max=True))
def test_a_cosine_below_one_never_reads_as_more_than_it_is(value):
    assert float(numbers.cosine(value)) <= value


@given(st.floats(0.0001, 20))
def test_a_divergence_keeps_two_significant_digits(value):
    assert float(numbers.nats(value)) == pytest.approx(value, rel=0.06)


@given(st.floats(0, 1))
def test_a_share_reads_as_everything_only_when_it_is(share):
    assert (numbers.percent(share) == "100.0%") == (share == 1)


def test_the_verdict_says_what_the_switch_repaired_and_that_cosine_was_blind():
    title, sentence = findings.verdict(OFF, MEAN)
    assert title == "Plain 3-bit codes break this model. Centring repairs it."
    assert "Cosine does not show the damage: keys score 0.983" in sentence
    assert f"{OFF.bits_per_value:.2f} → {MEAN.bits_per_value:.2f} bits per value" in sentence


def test_the_verdict_says_what_the_switch_broke():
    title, sentence = findings.verdict(MEAN, OFF)
    assert title == "Without centring, the same 3-bit codes break this model."
    assert "keys score 0.983" in sentence


@pytest.mark.parametrize(
    ("factor", "said"),
    [(0.5, "2.0 times closer"), (2, "2.0 times further"), (1.01, "stays as far")],
)
def test_any_other_change_is_closer_further_or_neither(factor, said):
    config = replace(MEAN.config, bits=4)
    layers = tuple(
        replace(layer, attention_kl=layer.attention_kl * factor) for layer in MEAN.layers
    )
    title, _ = findings.verdict(MEAN, replace(MEAN, config=config, layers=layers))
    assert title.startswith("Bits 3 → 4: attention")
    assert said in title


def test_a_run_alone_is_judged_by_its_attention():
    assert "break" in findings.verdict(None, OFF)[0]
    assert "hardly moves" in findings.verdict(None, MEAN)[0]


def test_cosines_name_their_worst_cell_and_admit_what_they_hide():
    assert "worst in layer 3" in findings.cosines(MEAN, "key_cosine")
    assert "cannot show it" in findings.cosines(OFF, "key_cosine")
    assert "cannot show it" not in findings.cosines(MEAN, "key_cosine")


def test_attention_names_the_layers_that_carry_the_damage():
    assert "Layer 3 carries 68%" in findings.attention(OFF)
    assert "evenly" in findings.attention(MEAN)


def test_a_head_that_barely_moves_reads_so():
    eye = np.eye(4)
    still = Map(eye, eye, 0, 1.0, 0.01, 1.0, tuple("abcd"), tuple("abcd"))
    assert "barely moves 1.0%" in findings.maps(still)
    assert "moves 30.0%" in findings.maps(still._replace(total_variation=0.3))


def test_the_verdict_warns_of_attention_and_never_of_cosine_alone():
    rows = re.findall(r"<tr>.*?</tr>", verdict.html(OFF, MEAN))
    alarming = {row.split("<small>")[0][-40:]: row.count("alarming") for row in rows}
    assert sum(count for name, count in alarming.items() if "Attention KL" in name) == 3
    assert sum(count for name, count in alarming.items() if "cosine" in name) == 0
    assert "looks fine both times" in verdict.html(OFF, MEAN)


def test_a_result_left_by_a_failed_run_is_marked():
    assert "previous run" in verdict.html(OFF, MEAN, previous=True)
    assert "previous run" not in verdict.html(OFF, MEAN)


def test_the_formula_equals_the_stored_bytes():
    text = headline.formula(MEAN)
    factors = [int(f.replace(",", "")) for f in re.findall(r"[\d,]+(?= [a-z×K])", text)[:5]]
    assert factors == [2, 4, 2, 64, 2048]
    assert np.prod(factors) * 2 == MEAN.before_bytes
    parts = [float(part) for part in re.findall(r"(?:codes|scales|means) ([\d.]+)", text)]
    assert sum(parts) == pytest.approx(MEAN.after.total / 2**20, abs=0.002)


def test_names_from_outside_are_shown_as_text():
    text = replace(MEAN.text, name="<img src=x onerror=alert(1)>")
    assert "<img" not in headline.html(replace(MEAN, text=text), beforehand=False)


def test_the_bar_leaves_out_what_is_not_stored():
    assert "signs" not in memory_bar.html(MEAN)
    widths = re.findall(r"width:([\d.]+)%", memory_bar.html(MEAN))
    assert float(widths[0]) == 100
    assert sum(map(float, widths[1:4])) == pytest.approx(100 / MEAN.ratio, abs=0.01)


def test_the_table_has_every_layer():
    assert layer_table.html(MEAN).count("<tr>") == 1 + reports.LAYERS


def test_a_change_is_named_by_what_differs():
    before, after = QuantConfig(), QuantConfig(rotation=False, qjl=True)
    assert wording.change(before, after) == "Rotation on → off, QJL off → on"
    assert wording.setting(after, ["centering"]) == "Centring mean"
