"""The lessons are the report's own numbers, cut to one head, and keep theory's promises."""

import json
from dataclasses import replace

import numpy as np
import pytest
from mps_mode import MpsMode

from turbo_kv.measure.analyze import Prepared, measure, prepare
from turbo_kv.measure.lesson import lessons
from turbo_kv.measure.lesson_report import Lessons
from turbo_kv.measure.report import Request
from turbo_kv.quant.config import BITS, QuantConfig

LAYER, HEAD = 1, 3


@pytest.fixture(scope="module")
def prepared(random_checkpoint) -> Prepared:
    return prepare(Request(model=str(random_checkpoint), context=300))


@pytest.fixture(scope="module")
def measured(prepared) -> Lessons:
    return lessons(prepared, LAYER, HEAD)


@pytest.mark.parametrize("centering", ["mean", "off"])
@pytest.mark.parametrize("bits", BITS)
def test_one_head_by_itself_measures_what_the_report_says_of_it(
    prepared, measured, bits, centering
):
    *_, report = measure(prepared, QuantConfig(bits=bits, centering=centering))
    way = measured.prices.way(bits, centering)
    assert way.kl == pytest.approx(report.layers[LAYER].attention_kl[HEAD], rel=1e-3)
    assert way.top1 == pytest.approx(report.layers[LAYER].top1[HEAD], abs=1e-6)
    assert way.bits_per_value == pytest.approx(report.bits_per_value)
    assert measured.kv_head == 1


@pytest.mark.parametrize("sketch", ["off", "on-top", "inside"])
def test_a_sketch_is_measured_as_the_report_measures_it(prepared, measured, sketch):
    choices = {} if sketch == "off" else {"qjl": True, "qjl_budget": sketch}
    *_, report = measure(prepared, QuantConfig(**choices))
    way = measured.estimates.way(sketch)
    assert way.kl == pytest.approx(report.layers[LAYER].attention_kl[HEAD], rel=1e-3)
    assert way.bits_per_value == pytest.approx(report.bits_per_value)


def test_rotation_keeps_all_energy_and_spreads_it(measured):
    plain, rotated = measured.rotation.plain, measured.rotation.rotated
    for basis in (plain, rotated):
        assert basis.energy.sum() == pytest.approx(1, rel=1e-5)
        assert basis.top(len(basis.energy)) == pytest.approx(1, rel=1e-5)
        assert np.diff(measured.rotation.edges) @ basis.density == pytest.approx(1, rel=1e-5)
    assert np.diff(measured.rotation.edges) @ measured.rotation.theory == pytest.approx(1, rel=0.01)
    assert rotated.top(3) < plain.top(3)
    assert rotated.largest < plain.largest


def test_a_codebook_keeps_its_promise_on_centred_keys(measured):
    for book in measured.levels.books:
        assert book.used.sum() == pytest.approx(1)
        assert book.expected.sum() == pytest.approx(1)
        assert np.abs(book.used - book.expected).max() < 0.02
        assert book.error == pytest.approx(book.promised, rel=0.1)
    errors = [measured.levels.book(bits).error for bits in BITS]
    assert errors == sorted(errors, reverse=True)


def test_the_constant_part_is_the_planted_bias(prepared, measured):
    assert measured.norms.constant == pytest.approx(60, rel=0.1)  # conftest.BIAS_NORM
    assert (measured.norms.content < measured.norms.constant).all()


def test_a_sketch_trades_bias_for_spread(measured):
    off, top, inside = (measured.estimates.way(way) for way in ("off", "on-top", "inside"))
    assert off.slope < 0.99  # norm-matched codes shrink a logit by their cosine, 0.983
    assert top.slope == pytest.approx(1, abs=0.01)
    assert inside.slope == pytest.approx(1, abs=0.03)
    assert off.spread < top.spread < inside.spread


def test_a_swap_is_a_change_of_the_strongest_key(prepared, measured):
    for way in measured.prices.ways:
        assert (way.swap is None) == (way.top1 == 1)
        if way.swap is not None:
            assert way.swap.before != way.swap.after
            tokens = prepared.capture.tokens[0].tolist()
            assert way.swap.query_text == prepared.decode(tokens[way.swap.query])


def test_the_numbers_survive_json(measured):
    data = json.loads(json.dumps(measured.to_dict(), allow_nan=False))
    again = Lessons.from_dict(data)
    assert again.to_dict() == measured.to_dict()
    assert again.prices.ways == measured.prices.ways
    with pytest.raises(KeyError):
        Lessons.from_dict({name: value for name, value in data.items() if name != "norms"})


@pytest.mark.parametrize(("layer", "head"), [(3, 0), (-1, 0), (0, 4), (0, -1)])
def test_a_head_that_does_not_exist_is_refused(prepared, layer, head):
    with pytest.raises(ValueError, match=r"choose 0 to"):
        lessons(prepared, layer, head)


def test_a_model_without_biases_can_be_taught(prepared):
    layers = tuple(
        replace(layer, key_bias=None, value_bias=None) for layer in prepared.capture.layers
    )
    bare = replace(prepared, capture=replace(prepared.capture, layers=layers))
    assert lessons(bare, 0, 0).prices.way(3).kl > 0


def test_lessons_use_only_what_mps_has(prepared):
    lessons(prepared, 0, 0)  # makes the tables, on the CPU wherever the model is
    with MpsMode() as mode:
        lessons(prepared, 0, 0)
    assert "aten::bincount" in mode.seen
