"""Laws of the figures that predictions are reduced to."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from turbo_kv.measure.next_token import Predictions
from turbo_kv.measure.quality import Perplexity, Quality, batch_means_stderr


@pytest.fixture
def unchanged():
    """A hundred predictions that packing left alone, every fourth right."""
    losses = torch.rand(100, generator=torch.Generator().manual_seed(0))
    right = torch.arange(100) % 4 == 0
    every = torch.ones(100, dtype=torch.bool)
    return Predictions(losses, losses.clone(), torch.zeros(100), every, right, right.clone())


def test_unchanged_predictions_cost_nothing(unchanged):
    quality = Quality.of(unchanged)
    assert quality.reference == quality.quantized
    assert (quality.change.relative, quality.change.stderr) == (0, 0)
    assert (quality.kl.mean, quality.kl.stderr, quality.kl.p99) == (0, 0, 0)
    assert (quality.top1, quality.flips.lost, quality.flips.gained) == (1, 0, 0)
    assert quality.predictions == 100


def test_flips_count_both_directions(unchanged):
    right = unchanged.reference_right.clone()
    right[[0, 4, 8]] = False  # three lost
    right[[1]] = True  # one gained
    flips = Quality.of(replace(unchanged, quantized_right=right)).flips
    assert (flips.lost, flips.gained) == (0.03, 0.01)


def test_perplexity_is_the_number_of_equal_choices():
    assert Perplexity.of(torch.full((50,), math.log(7.0))).perplexity == pytest.approx(7)


def test_a_constant_loss_more_is_a_certain_change(unchanged):
    change = Quality.of(replace(unchanged, quantized_nll=unchanged.quantized_nll + 0.1)).change
    assert change.relative == pytest.approx(math.exp(0.1) - 1, rel=1e-5)
    assert change.stderr == pytest.approx(0, abs=1e-6)
    assert Quality.of(unchanged).reference.stderr > 0


def test_the_99th_percentile_is_the_worst_hundredth(unchanged):
    kl = torch.linspace(0, 1, 101)[:100]
    assert Quality.of(replace(unchanged, kl=kl)).kl.p99 == pytest.approx(0.9801)


@given(st.integers(2, 3000))
def test_standard_error_is_finite_and_positive(count):
    samples = torch.randn(count, generator=torch.Generator().manual_seed(count))
    assert 0 < batch_means_stderr(samples) < math.inf


def test_standard_error_knows_correlation():
    """An AR(1) series of coefficient 0.8 has 9 times the variance of the mean of white noise."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(200, 2500, generator=generator)
    series = torch.zeros_like(noise)
    series[:, 0] = noise[:, 0] / 0.6
    for t in range(1, noise.shape[1]):
        series[:, t] = 0.8 * series[:, t - 1] + noise[:, t]
    true = series.mean(-1).std()
    estimates = torch.tensor([batch_means_stderr(row) for row in series])
    assert 0.8 * true < estimates.mean() < 1.1 * true
    plain = series.std(-1).mean() / math.sqrt(series.shape[1])
    assert plain < 0.4 * true
