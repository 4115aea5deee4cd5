"""Codebooks as polynomials: the levels a GPU computes are the quantizer's, for every word."""

import pytest
import torch

from turbo_kv.kernels.levels import Levels, codes, evaluate, find_levels
from turbo_kv.kernels.pages import FIELDS
from turbo_kv.quant import fast, lloyd_max

UNIFORM = torch.arange(8) - 3.5


def computed(levels: Levels) -> torch.Tensor:
    """Every level of a codebook, as a kernel computes it."""
    count = 2**levels.bits
    t = 2 * (torch.arange(count) + 0.5) / count - 1
    return evaluate(levels, t).double() * levels.gain


@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("book", [lloyd_max.codebook, fast.codebook], ids=["lloyd-max", "fast"])
def test_computed_levels_are_the_codebook_s(book, bits, head_dim):
    centroids = book(bits, head_dim).centroids.double()
    found = computed(find_levels(centroids))
    assert ((found - centroids).norm() / centroids.norm()).item() < 3e-4
    assert (found / centroids - 1).abs().max().item() < 1.5e-3


def test_the_cheapest_form_is_found():
    assert find_levels(UNIFORM).kind == "uniform"
    assert find_levels(fast.codebook(3, 128).centroids).kind == "quadratic"
    assert find_levels(lloyd_max.codebook(3, 128).centroids).kind == "odd"
    assert len(find_levels(lloyd_max.codebook(3, 128).centroids).coefficients) == 4  # degree 7


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_every_field_of_every_word_is_read_where_fp16_is_exact(bits):
    """What the PTX of codes() does, step by step in torch: shift, mask, magic number, one fma."""
    read = codes(find_levels(lloyd_max.codebook(bits, 64).centroids), peak=1.0, inline=True)
    words = torch.arange(2**16)
    for field in range(FIELDS[bits]):
        shift = read.bit[field] - read.position[field]
        moved = (words >> shift if shift > 0 else words << -shift) & 0xFFFF
        pattern = moved & (2**bits - 1) << read.position[field] | 0x6400
        x = (pattern | 1 << read.position[field] - 1).to(torch.int16).view(torch.float16)
        t = x.double() * read.step[field] - (1024 * read.step[field] + 1)
        code = words >> read.bit[field] & 2**bits - 1
        assert torch.equal(t, 2 * (code + 0.5) / 2**bits - 1)
        assert torch.equal(t.half().double(), t)
        assert f"0x{(2**bits - 1) << read.position[field]:04X}" in read.ptx[field]


@pytest.mark.parametrize(
    ("centroids", "why"),
    [
        (torch.arange(8.0), "not symmetric"),
        (torch.tensor([-9.0, -1, -0.9, -0.1, 0.1, 0.9, 1, 9]) ** 5, "no short polynomial"),
    ],
)
def test_a_codebook_that_cannot_be_computed_is_refused(centroids, why):
    with pytest.raises(ValueError, match=why):
        find_levels(centroids)
