import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from turbo_kv.quant.scales import LARGEST, LEVELS, TOO_LARGE, read, store, too_large

SMALLEST = 2.0**-8


def test_a_byte_is_read_as_the_level_it_stands_for():
    every = torch.arange(TOO_LARGE, dtype=torch.uint8)
    levels = read(every)
    assert (levels[0], levels[1], levels[-1]) == (0, SMALLEST, LARGEST[8])
    assert len(levels) == len(LEVELS) < 256
    steps = (levels[2:] / levels[1:-1]).log2()
    inside = (levels[1:-1] >= 0.5) & (levels[1:-1] < 32)
    torch.testing.assert_close(steps[inside], torch.full((6 * 33,), 1 / 33))
    assert (steps[~inside] > 1 / 8).all()
    assert torch.equal(store(levels, 8), every)


@given(st.floats(SMALLEST, LARGEST[8], width=32))
def test_a_byte_is_wrong_by_half_a_step_at_most(length):
    stored = store(torch.tensor([length]), 8)
    assert stored.dtype == torch.uint8
    assert not too_large(stored)
    half = 1 / 66 if 0.5 <= length <= 32 else 1 / 14 if 32 <= length <= 256 else 1 / 4
    assert read(stored).item() == pytest.approx(length, rel=2**half - 1 + 1e-6)


@given(st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=40), st.sampled_from((8, 16)))
def test_a_scale_is_stored_alike_alone_and_among_others(lengths, bits):
    lengths = torch.tensor(lengths)
    alone = torch.cat([store(one, bits) for one in lengths.split(1)])
    assert torch.equal(alone, store(lengths, bits))


@pytest.mark.parametrize("bits", LARGEST)
def test_what_cannot_be_stored_is_marked(bits):
    bad = torch.tensor([float("nan"), float("inf"), 1.2 * LARGEST[bits]])
    assert too_large(store(bad, bits)).all()
    assert not too_large(store(torch.tensor([0.0, 1e-30, 1.0, 0.98 * LARGEST[bits]]), bits)).any()


def test_next_to_nothing_is_nothing():
    assert not read(store(torch.tensor([0.0, 1e-30, 0.49 * SMALLEST]), 8)).any()
