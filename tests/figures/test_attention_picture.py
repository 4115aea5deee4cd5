"""Attention pictures: one shared scale, a symmetric difference, the future left blank."""

from io import BytesIO

import numpy as np
import pytest
from matplotlib.image import imread

from turbo_kv.figures import attention


def weights(rows: int, keys: int, seed: int) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(rows, keys))
    odds = np.where(attention.visible((rows, keys)), np.exp(logits), 0)
    return odds / odds.sum(axis=1, keepdims=True)


def pixels(png: bytes) -> np.ndarray:
    return imread(BytesIO(png))  # (rows, keys, 4), 0 to 1


@pytest.mark.parametrize("shape", [(8, 8), (5, 8), (1, 1)])
def test_the_last_query_sees_everything_and_each_earlier_one_fewer(shape):
    seen = attention.visible(shape).sum(axis=1)
    assert seen[-1] == shape[1]
    assert (np.diff(seen) == 1).all()


def test_equal_weights_have_equal_colours_in_both_maps():
    exact, packed = weights(6, 6, 0), weights(6, 6, 1)
    packed[5] = exact[5]
    ends = attention.scales(exact, packed)
    assert ends.probability == max(exact.max(), packed.max())
    drawn = [pixels(attention.probability(values, ends)) for values in (exact, packed)]
    assert np.array_equal(drawn[0][5], drawn[1][5])
    assert not np.array_equal(drawn[0][4], drawn[1][4])


def test_the_future_is_transparent_and_nothing_else_is():
    drawn = pixels(attention.probability(weights(4, 6, 0), attention.Scales(1.0, 1.0)))
    assert drawn.shape == (4, 6, 4)
    assert np.array_equal(drawn[..., 3] == 1, attention.visible((4, 6)))


def test_a_larger_weight_is_brighter():
    row = np.array([[0.0, 0.01, 0.1, 0.3, 0.59]])
    light = pixels(attention.probability(row, attention.scales(row, row)))[0, :, :3].sum(axis=1)
    assert (np.diff(light) > 0).all()


def test_no_difference_is_neutral_and_opposite_ones_mirror():
    change = np.array([[-0.2, 0.0, 0.2]])
    drawn = pixels(attention.difference(change, attention.Scales(1, 0.2)))[0, :, :3]
    assert np.ptp(drawn[1]) < 0.03
    assert drawn[0, 0] > drawn[0, 2], "less is brown"
    assert drawn[2, 2] > drawn[2, 1], "more is violet"


def test_the_future_is_transparent():
    drawn = pixels(attention.probability(weights(4, 4, 0), attention.Scales(1, 1)))
    assert np.array_equal(drawn[..., 3] > 0, attention.visible((4, 4)))


def test_equal_maps_have_a_scale():
    same = weights(3, 3, 0)
    assert attention.scales(same, same).difference > 0
