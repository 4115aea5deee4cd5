"""The methods worth comparing, and the points they leave."""

import csv
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo_kv.measure.methods import DEFAULT, methods, name
from turbo_kv.measure.point import Point, front, to_csv
from turbo_kv.quant.config import BITS, Codebook, QuantConfig


def point(bits_per_value: float, kl: float, config: QuantConfig = DEFAULT) -> Point:
    layers = (kl / 2, kl * 1.5)
    means = (0.99, 0.98, 0.97, 0.9)
    return Point(config, bits_per_value, kl, *means, layers, (0.99,) * 2, (0.98,) * 2)


def test_every_method_has_its_own_name_and_the_default_comes_first():
    known = methods()
    assert next(iter(known.values())) == DEFAULT
    assert len(set(known.values())) == len(known)
    assert all(name(config) == called for called, config in known.items())


def test_every_codebook_and_width_that_there_is_can_be_compared():
    known = set(methods().values())
    for codebook in get_args(Codebook):
        assert any(config.codebook == codebook for config in known)
    assert {config.bits for config in known} == set(BITS)
    assert {config.centering for config in known} == {"off", "bias", "mean"}


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({}, "3 bits"),
        ({"bits": 4, "centering": "off"}, "4 bits, centring: off"),
        ({"rotation": False}, "3 bits, no rotation"),
        ({"qjl": True}, "3 bits, QJL on top"),
        ({"qjl": True, "qjl_budget": "inside", "qjl_on": "keys"}, "3 bits, QJL inside, keys only"),
        ({"qjl_on": "keys"}, "3 bits"),
    ],
)
def test_a_name_says_what_differs(choices, said):
    assert name(QuantConfig(**choices)) == said


@given(st.lists(st.tuples(st.floats(2, 16), st.floats(1e-4, 10)), min_size=1, max_size=12))
def test_nothing_off_the_front_is_smaller_and_better(pairs):
    points = [point(*pair) for pair in pairs]
    best = front(points)
    for each in points:
        beaten = any(
            other.bits_per_value <= each.bits_per_value and other.attention_kl <= each.attention_kl
            for other in best
        )
        assert beaten
    kl = [each.attention_kl for each in best]
    assert kl == sorted(kl, reverse=True)
    assert len(set(kl)) == len(kl)


def test_a_point_reads_back_and_lists_as_csv():
    one = point(3.27, 0.03, QuantConfig(bits=4, centering="off"))
    assert Point.from_dict(one.to_dict()) == one
    (row,) = csv.DictReader(to_csv([one]).splitlines())
    assert row["method"] == "4 bits, centring: off"
    assert float(row["attention_kl"]) == 0.03
    assert np.mean(one.layer_kl) == pytest.approx(one.attention_kl)
