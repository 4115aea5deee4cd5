"""The fast codebook: levels of one byte in fp16, near the best levels there are."""

import pytest
import torch

from turbo_kv.quant import fast, lloyd_max
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.lloyd_max import cells
from turbo_kv.quant.quantizer import TurboQuantizer

BITS = tuple(fast.POSITIVE)
COSTS = {1: 1.0, 2: 1.0002, 3: 1.0105, 4: 1.046}  # error, of the best codebook's


@pytest.mark.parametrize("head_dim", [64, 128, 256])
@pytest.mark.parametrize("bits", BITS)
def test_its_error_is_never_below_the_best_and_little_above(bits, head_dim):
    best = lloyd_max.distortion(bits, head_dim)
    assert best * (1 - 1e-9) <= fast.codebook(bits, head_dim).distortion <= best * COSTS[bits]


@pytest.mark.parametrize("bits", BITS)
def test_its_levels_are_fp16_numbers_that_end_in_a_zero_byte(bits):
    codebook = fast.codebook(bits, 128)
    shape = codebook.centroids / codebook.centroids[-1] * fast.POSITIVE[bits][-1]
    whole = shape.round()
    torch.testing.assert_close(shape, whole, rtol=1e-6, atol=0)
    assert not (whole.half().view(torch.int16) & 0xFF).any()
    assert torch.equal(whole, -whole.flip(0))
    midpoints = (codebook.centroids[1:] + codebook.centroids[:-1]) / 2
    torch.testing.assert_close(codebook.boundaries, midpoints, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_no_other_step_places_the_boundaries_better(bits):
    codebook = fast.codebook(bits, 128)

    def error(stretch):
        levels, boundaries = (
            stretch * each.double() for each in (codebook.centroids, codebook.boundaries)
        )
        mass, mean = cells(boundaries, 128)
        return 1 + 128 * (mass * (levels.square() - 2 * mean * levels)).sum().item()

    assert error(1) == pytest.approx(codebook.distortion, rel=1e-4)
    assert error(1) < min(error(0.98), error(1.02))


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_vectors_come_back_with_the_error_that_theory_promises(bits):
    x = torch.randn(1, 1, 4000, 128, generator=torch.Generator().manual_seed(0))
    quantizer = TurboQuantizer(128, QuantConfig(bits=bits, codebook="fast"))
    packed = quantizer.quantize(x)
    unit = quantizer.rotate(x) / x.norm(dim=-1, keepdim=True)
    error = (quantizer.codebook.decode(packed.codes) - unit).square().sum(-1).mean().item()
    assert error == pytest.approx(fast.codebook(bits, 128).distortion, rel=0.01)


def test_only_the_widths_there_are_and_dimensions_enough():
    with pytest.raises(ValueError, match="codebook of 5 bits; choose one of 1, 2, 3, 4"):
        fast.codebook(5, 128)
    with pytest.raises(ValueError, match="codebook of 0 bits"):
        fast.codebook(0, 128)
    with pytest.raises(ValueError, match="at least 3 dimensions"):
        fast.codebook(3, 2)
