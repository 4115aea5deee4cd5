"""The quadratic codebook: what a GPU computes in fp16, near the best levels there are."""

import pytest
import torch

from turbo_kv.quant import fast, lloyd_max
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.lloyd_max import cells
from turbo_kv.quant.quantizer import TurboQuantizer

BITS = tuple(fast.CURVES)
COSTS = {1: 1.0, 2: 1.0001, 3: 1.0125, 4: 1.055}  # error, of the best codebook's


@pytest.mark.parametrize("head_dim", [64, 128, 256])
@pytest.mark.parametrize("bits", BITS)
def test_its_error_is_never_below_the_best_and_little_above(bits, head_dim):
    best = lloyd_max.distortion(bits, head_dim)
    assert best * (1 - 1e-9) <= fast.codebook(bits, head_dim).distortion <= best * COSTS[bits]


@pytest.mark.parametrize("bits", BITS)
def test_its_levels_are_a_quadratic_in_half_precision(bits):
    shapes = fast.shapes(bits)
    assert torch.equal(shapes, shapes.half().float())
    assert torch.equal(shapes, -shapes.flip(0))
    codebook = fast.codebook(bits, 128)
    steps = codebook.centroids / shapes
    torch.testing.assert_close(steps, steps[:1].expand_as(steps), rtol=1e-6, atol=0)
    midpoints = (codebook.centroids[1:] + codebook.centroids[:-1]) / 2
    torch.testing.assert_close(codebook.boundaries, midpoints, rtol=1e-6, atol=1e-9)


def test_three_bits_have_the_levels_that_kernels_know():
    assert fast.shapes(3)[4:].tolist() == [4.14453125, 13.9375, 25.71875, 39.5]


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


@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize(("bits", "most"), [(1, 1.0001), (2, 1.02), (3, 1.09), (4, 1.23)])
def test_uniform_levels_are_the_codes_and_cost_more(head_dim, bits, most):
    uniform = fast.uniform_codebook(bits, head_dim)
    gaps = uniform.centroids.diff()
    torch.testing.assert_close(gaps, gaps[:1].expand_as(gaps), rtol=1e-5, atol=0)
    best = lloyd_max.distortion(bits, head_dim)
    assert best * (1 - 1e-9) <= uniform.distortion <= best * most
    assert uniform.distortion >= fast.codebook(bits, head_dim).distortion * (1 - 1e-9)


def test_only_the_widths_there_are_and_dimensions_enough():
    with pytest.raises(ValueError, match="codebook of 5 bits; choose one of 1, 2, 3, 4"):
        fast.codebook(5, 128)
    with pytest.raises(ValueError, match="codebook of 0 bits"):
        fast.uniform_codebook(0, 128)
    with pytest.raises(ValueError, match="at least 3 dimensions"):
        fast.codebook(3, 2)
