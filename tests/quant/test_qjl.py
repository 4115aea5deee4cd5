from math import pi

import pytest
import torch

from turbo_kv.quant.qjl import Sketch

D = 64
SEEDS = 96


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def restored():
    """Residuals (N, D) and their restorations by many sketches (SEEDS, N, D)."""
    residuals = 3 * gaussian(200, D)
    sketches = (Sketch(D, seed) for seed in range(SEEDS))
    return residuals, torch.stack([each.restore(*each.sketch(residuals)) for each in sketches])


def test_the_sketch_is_unbiased(restored):
    residuals, estimates = restored
    slopes = (estimates * residuals).sum(-1) / residuals.square().sum(-1)
    assert slopes.mean() == pytest.approx(1.0, abs=0.005)


def test_the_variance_is_that_of_theory_and_within_the_papers_bound(restored):
    residuals, estimates = restored
    query = torch.nn.functional.normalize(gaussian(D, seed=1), dim=0)
    errors = (estimates - residuals) @ query  # (SEEDS, N)
    norms = residuals.square().sum(-1)
    expected = (pi / 2 * norms - (residuals @ query).square()) / D
    assert errors.square().mean() == pytest.approx(expected.mean().item(), rel=0.05)
    assert errors.square().mean() <= pi / (2 * D) * norms.mean()


@pytest.mark.parametrize("head_dim", [18, 64, 80, 128])
def test_one_bit_per_value_and_one_norm(head_dim):
    signs, norms = Sketch(head_dim, 0).sketch(gaussian(2, 3, 5, head_dim))
    assert (signs.shape, signs.dtype) == ((2, 3, 5, -(-head_dim // 8)), torch.uint8)
    assert (norms.shape, norms.dtype) == ((2, 3, 5), torch.float32)


def test_the_norm_is_that_of_the_residual_and_zeros_stay_zero():
    sketch, residual = Sketch(D, 0), gaussian(7, D)
    residual[3] = 0
    signs, norms = sketch.sketch(residual)
    torch.testing.assert_close(norms, residual.norm(dim=-1))
    assert not sketch.restore(signs, norms)[3].any()


def test_the_seed_decides():
    residual = gaussian(7, D)
    first, again, other = (Sketch(D, seed).sketch(residual)[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
