"""Polynomials whose whole part is a code."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from turbo_kv.kernels.companders import MARGIN, compander
from turbo_kv.kernels.quantize_cuda import _boundaries
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.quantizer import TurboQuantizer

NEAR = 5e-6  # of a boundary, in standard deviations: how far fp32 is off
CODEBOOKS = {
    f"{bits} bits, {codebook}, {head_dim} wide": TurboQuantizer(
        head_dim, QuantConfig(bits=bits, codebook=codebook)
    )
    for head_dim in (64, 128)
    for bits in (2, 3, 4)
    for codebook in ("lloyd-max", "fast")
}


def compressed(numbers, quantizer):
    """A quantizer's compander of numbers, in their precision."""
    coefficients, middle = compander(_boundaries(quantizer), quantizer.head_dim**0.5)
    power, total = numbers * numbers - middle, torch.zeros_like(numbers)
    for coefficient in reversed(coefficients):
        total = total * power + coefficient
    return total * numbers


def assert_codes(numbers, quantizer, near):
    """That whole parts are codes, but `near` a boundary."""
    half = 2**quantizer.codebook.bits // 2
    edges = torch.tensor(_boundaries(quantizer), dtype=torch.double)
    edges = torch.cat((-edges.flip(0), torch.zeros(1, dtype=torch.double), edges))
    whole = compressed(numbers, quantizer).floor().clamp(-half, half - 1).long() + half
    differ = whole != torch.searchsorted(edges, numbers.double(), right=True)
    distance = (numbers.double()[:, None] - edges).abs().amin(1)
    assert not (differ & (distance > near)).any()


@pytest.mark.parametrize("quantizer", CODEBOOKS.values(), ids=CODEBOOKS)
def test_a_boundary_is_passed_at_a_whole_number(quantizer):
    boundaries = torch.tensor(_boundaries(quantizer), dtype=torch.double)
    numbers = torch.arange(1, len(boundaries) + 1, dtype=torch.double)
    assert torch.allclose(compressed(boundaries, quantizer), numbers, rtol=0, atol=1e-9)


@pytest.mark.parametrize("quantizer", CODEBOOKS.values(), ids=CODEBOOKS)
def test_every_number_there_can_be_finds_its_code(quantizer):
    most = quantizer.head_dim**0.5
    numbers = torch.linspace(-most, most, 200_001, dtype=torch.double)
    assert_codes(numbers, quantizer, MARGIN)
    assert_codes(numbers.float(), quantizer, NEAR)


@given(
    st.sampled_from(list(CODEBOOKS.values())), st.floats(-1, 1, width=32), st.floats(-1e-4, 1e-4)
)
def test_numbers_beside_a_boundary_find_their_codes_in_fp32(quantizer, part, beside):
    boundaries = torch.tensor([0.0, *_boundaries(quantizer)])
    numbers = torch.cat((boundaries + beside, torch.tensor([part * quantizer.head_dim**0.5])))
    assert_codes(torch.cat((numbers, -numbers)), quantizer, NEAR)


def test_boundaries_that_no_short_polynomial_passes_are_refused():
    with pytest.raises(ValueError, match="no compander of few terms"):
        compander([1e-3, 2e-3, 3.0], 11.0)
