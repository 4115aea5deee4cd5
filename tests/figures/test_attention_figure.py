"""Attention pictures: one shared scale, a symmetric difference, the future left blank."""

import numpy as np
import pytest

from turbo_kv.figures import attention


def weights(rows: int, keys: int, seed: int) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(rows, keys))
    odds = np.where(attention.visible((rows, keys)), np.exp(logits), 0)
    return odds / odds.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("shape", [(8, 8), (5, 8), (1, 1)])
def test_the_last_query_sees_everything_and_each_earlier_one_fewer(shape):
    seen = attention.visible(shape).sum(axis=1)
    assert seen[-1] == shape[1]
    assert (np.diff(seen) == 1).all()


def test_both_maps_share_the_scale_of_the_larger():
    exact, packed = weights(6, 6, 0), weights(6, 6, 1)
    ends = attention.scales(exact, packed)
    assert ends.probability == max(exact.max(), packed.max())
    for values in (exact, packed):
        image = attention.probability("t", values, ends, 0).axes[0].images[0]
        assert image.get_clim() == (0, ends.probability)


def test_the_difference_is_symmetric_and_says_where_it_is_cut():
    exact, packed = weights(6, 6, 0), weights(6, 6, 1)
    ends = attention.scales(exact, packed)
    figure = attention.difference("t", packed - exact, ends, 0)
    assert figure.axes[0].images[0].get_clim() == (-ends.difference, ends.difference)
    assert f"±{ends.difference:.2g}" in figure.axes[1].get_xlabel()


def test_the_future_is_blank_and_the_axes_count_positions():
    figure = attention.probability("t", weights(4, 4, 0), attention.Scales(1, 1), 100)
    image = figure.axes[0].images[0]
    assert np.array_equal(image.get_array().mask, ~attention.visible((4, 4)))
    assert image.get_extent() == [99.5, 103.5, 103.5, 99.5]


def test_equal_maps_have_a_scale():
    same = weights(3, 3, 0)
    assert attention.scales(same, same).difference > 0


def test_pixels_are_rgb():
    drawn = attention.pixels(
        attention.probability("t", weights(4, 4, 0), attention.Scales(1, 1), 0)
    )
    assert drawn.dtype == np.uint8
    assert drawn.shape[2] == 3
