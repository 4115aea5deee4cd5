from math import pi, sqrt

import pytest
import torch

from turbo_kv.quant import lloyd_max
from turbo_kv.quant.lloyd_max import BITS, codebook, distortion, probabilities

DISTORTION = {  # at d = 64, d = 128 and for a Gaussian
    1: (0.35839, 0.36089, 0.36338),
    2: (0.11453, 0.11600, 0.11748),
    3: (0.03339, 0.03397, 0.03455),
    4: (0.00913, 0.00931, 0.00950),
}
GAUSSIAN = 4000  # dimensions, enough for the limit
every_codebook = pytest.mark.parametrize(
    ("bits", "head_dim"), [(bits, d) for bits in BITS for d in (16, 64, 80, 128, 256)]
)


def density(head_dim):
    """The coordinate law on a fine grid, by nothing but its definition."""
    t = torch.linspace(-1, 1, 400_001, dtype=torch.float64)
    p = (1 - t.square()).pow((head_dim - 3) / 2)
    return t, p / p.sum()


def expected_error(centroids, boundaries, head_dim):
    t, p = density(head_dim)
    nearest = centroids.double()[torch.bucketize(t, boundaries.double())]
    return head_dim * (p * (t - nearest).square()).sum().item()


@every_codebook
def test_levels_are_symmetric_sorted_and_parted_at_midpoints(bits, head_dim):
    book = codebook(bits, head_dim)
    assert book.centroids.dtype == book.boundaries.dtype == torch.float32
    assert len(book.centroids) == 2**bits
    assert (book.centroids.diff() > 0).all()
    torch.testing.assert_close(book.centroids, -book.centroids.flip(0))
    midpoints = (book.centroids[1:] + book.centroids[:-1]) / 2
    torch.testing.assert_close(book.boundaries, midpoints, atol=1e-7, rtol=1e-6)


@every_codebook
def test_every_level_is_the_mean_of_its_cell(bits, head_dim):
    book = codebook(bits, head_dim)
    t, p = density(head_dim)
    cell = torch.bucketize(t, book.boundaries.double())
    mass = torch.zeros(2**bits, dtype=torch.float64).index_add(0, cell, p)
    moment = torch.zeros(2**bits, dtype=torch.float64).index_add(0, cell, p * t)
    torch.testing.assert_close(book.centroids.double(), moment / mass, atol=1e-5, rtol=1e-5)


@every_codebook
def test_the_promised_distortion_is_the_error_and_no_neighbour_has_less(bits, head_dim):
    book = codebook(bits, head_dim)
    error = expected_error(book.centroids, book.boundaries, head_dim)
    assert distortion(bits, head_dim) == pytest.approx(error, rel=1e-4)
    for stretch in (0.98, 1.02):
        assert expected_error(stretch * book.centroids, stretch * book.boundaries, head_dim) > error


@every_codebook
def test_distortion_lies_between_shannons_floor_and_the_papers_bound(bits, head_dim):
    assert 4**-bits < distortion(bits, head_dim) < sqrt(3) * pi / 2 * 4**-bits


@pytest.mark.parametrize("bits", BITS)
def test_distortions_are_those_of_the_literature(bits):
    at_64, at_128, gaussian = DISTORTION[bits]
    assert distortion(bits, 64) == pytest.approx(at_64, abs=6e-6)
    assert distortion(bits, 128) == pytest.approx(at_128, abs=6e-6)
    assert distortion(bits, GAUSSIAN) == pytest.approx(gaussian, rel=1e-2)


def test_levels_are_those_of_the_literature():
    for head_dim, expected in (
        (128, (0.2444, 0.7533, 1.3366, 2.1315)),
        (GAUSSIAN, (0.2451, 0.7560, 1.3439, 2.1520)),
    ):
        positive = codebook(3, head_dim).centroids[4:] * head_dim**0.5
        torch.testing.assert_close(positive, torch.tensor(expected), atol=1e-3, rtol=0)
    assert codebook(1, GAUSSIAN).centroids[1] * sqrt(GAUSSIAN) == pytest.approx(
        sqrt(2 / pi), rel=1e-3
    )


def test_an_odd_dimension_has_a_codebook_too():
    error = expected_error(codebook(3, 33).centroids, codebook(3, 33).boundaries, 33)
    assert distortion(3, 33) == pytest.approx(error, rel=1e-4)
    assert codebook(1, 3).centroids[1] == pytest.approx(0.5)  # Archimedes: uniform on [-1, 1]


@pytest.mark.parametrize("bits", [0, 5, -1])
def test_other_widths_are_refused(bits):
    with pytest.raises(ValueError, match="choose one of 1, 2, 3, 4"):
        codebook(bits, 64)


def test_fewer_than_three_dimensions_are_refused():
    with pytest.raises(ValueError, match="at least 3"):
        codebook(3, 2)


@pytest.mark.parametrize("head_dim", [16, 64, 80, 128])
def test_the_density_is_the_law_itself(head_dim):
    t, p = density(head_dim)
    step = (t[1] - t[0]).item()
    torch.testing.assert_close(lloyd_max.density(t, head_dim) * step, p, rtol=1e-4, atol=1e-12)


@every_codebook
def test_a_level_is_as_likely_as_its_cell(bits, head_dim):
    t, p = density(head_dim)
    cells = torch.bucketize(t, codebook(bits, head_dim).boundaries.double())
    likely = torch.zeros(2**bits, dtype=torch.float64).index_add_(0, cells, p)
    torch.testing.assert_close(probabilities(bits, head_dim).double(), likely, rtol=1e-3, atol=1e-5)
