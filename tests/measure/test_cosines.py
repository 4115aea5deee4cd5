"""Laws of the cosine's definitions: which changes they see, and which they cannot."""

import pytest
import torch

from turbo_kv.measure.cosines import DEFINITIONS, Side, cosines

SHAPE = (1, 2, 300, 32)


def draw(seed, shape=SHAPE):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def layers():
    """Two layers of noise around a constant, restored with an error of a tenth of the noise."""
    sides = []
    for seed in (0, 1):
        constant = 3 * draw(10 + seed, (1, 2, 1, 32))
        exact = constant + draw(seed)
        sides.append(Side(exact, exact + 0.1 * draw(20 + seed), constant))
    return sides


def change(layers, restored):
    return [Side(side.exact, restored(side), side.constant) for side in layers]


@pytest.mark.parametrize("name", DEFINITIONS)
def test_what_is_restored_exactly_has_a_cosine_of_one(layers, name):
    assert DEFINITIONS[name](change(layers, lambda side: side.exact)) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_turning_both_sides_alike_changes_nothing(layers, name):
    turn = torch.linalg.qr(draw(5, (32, 32)))[0]
    turned = [Side(s.exact @ turn, s.restored @ turn, s.constant @ turn) for s in layers]
    assert DEFINITIONS[name](turned) == pytest.approx(DEFINITIONS[name](layers), abs=1e-6)


def test_a_larger_constant_lifts_every_definition_but_that_of_the_content(layers):
    lifted = [
        Side(s.exact + 9 * s.constant, s.restored + 9 * s.constant, 10 * s.constant) for s in layers
    ]
    before, after = cosines(layers), cosines(lifted)
    for name in DEFINITIONS:
        if name == "content, per vector":
            assert after[name] == pytest.approx(before[name], abs=1e-5)
        else:
            assert 1 - after[name] < (1 - before[name]) / 10


def test_the_whole_cache_follows_its_longest_layer(layers):
    long = Side(1000 * layers[0].exact, 1000 * layers[0].exact, layers[0].constant)
    found = cosines([long, layers[1]])
    assert found["whole cache"] > 0.99999
    assert found["per layer"] < 0.9999


def test_no_vector_is_restored_worse_than_the_worst(layers):
    found = cosines(layers)
    assert found["worst vector"] < found["per vector"] < 1
    broken = change(layers, lambda side: side.restored.index_fill(2, torch.tensor([7]), 0.0))
    assert cosines(broken)["worst vector"] == 0
