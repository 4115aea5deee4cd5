import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from turbo_kv.quant.scales import LARGEST, read, store, too_large

SMALLEST = 2.0**-8


def test_a_byte_is_read_as_the_level_it_stands_for():
    every = torch.arange(255, dtype=torch.uint8)
    levels = read(every)
    assert levels[0] == 0
    assert (levels[1], levels[97]) == (SMALLEST, 1)
    assert levels[-1] == pytest.approx(LARGEST[8])
    torch.testing.assert_close(levels[2:] / levels[1:-1], torch.full((253,), 2 ** (1 / 12)))
    assert torch.equal(store(levels, 8), every)


@given(st.floats(SMALLEST, LARGEST[8]))
def test_a_byte_is_wrong_by_half_a_step_at_most(length):
    stored = store(torch.tensor([length]), 8)
    assert stored.dtype == torch.uint8
    assert not too_large(stored)
    assert read(stored).item() == pytest.approx(length, rel=2 ** (1 / 24) - 1 + 1e-6)


def test_bytes_add_the_error_that_is_promised():
    lengths = torch.logspace(-2, 3, 100_000)
    error = read(store(lengths, 8)) / lengths - 1
    assert error.square().mean() == pytest.approx(2.8e-4, rel=0.02)


@given(st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=40), st.sampled_from((8, 16)))
def test_a_scale_is_stored_alike_alone_and_among_others(lengths, bits):
    lengths = torch.tensor(lengths)
    alone = torch.cat([store(one, bits) for one in lengths.split(1)])
    assert torch.equal(alone, store(lengths, bits))


@pytest.mark.parametrize("bits", LARGEST)
def test_what_cannot_be_stored_is_marked(bits):
    bad = torch.tensor([float("nan"), float("inf"), 1.1 * LARGEST[bits]])
    assert too_large(store(bad, bits)).all()
    assert not too_large(store(torch.tensor([0.0, 1e-30, 1.0, 0.98 * LARGEST[bits]]), bits)).any()


def test_next_to_nothing_is_nothing():
    assert not read(store(torch.tensor([0.0, 1e-30, 0.9 * SMALLEST]), 8)).any()
