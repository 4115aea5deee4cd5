"""The kernel that writes pages, in Triton's interpreter on a CPU and as it is on a GPU."""

from itertools import pairwise

import pytest
import torch

pytest.importorskip("triton", reason="Triton has no wheel for this platform")

from pages_on_device import DEVICE, cos_sin, normal

from turbo_kv.kernels.pages import PAGE, empty_pages, to_dense
from turbo_kv.kernels.quantize_triton import append, tables
from turbo_kv.quant.centering import Center
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.packing import unpack
from turbo_kv.quant.quantizer import TurboQuantizer

LARGEST = 2**20  # what a level's square is weighted with
NEAR = 1e-5  # of a boundary, in units of a coordinate's standard deviation


def poisoned(shape, bits):
    """Pages of keys and values with one length, full of rubbish."""
    pages = tuple(empty_pages(shape, bits, side, DEVICE) for side in ("keys", "values"))
    for side in pages:
        side.words.fill_(-1)
        side.scales.fill_(float("nan"))
    return pages


def write(states, pages, quantizers, center, cuts):
    """Append the states between neighbouring cuts, one launch each."""
    table = cos_sin(pages[0].capacity, quantizers[0].head_dim)
    for start, stop in pairwise(cuts):
        for side in pages:
            side.length.fill_(stop)
        new = tuple(each[:, :, start:stop] for each in states)
        append(new, pages, quantizers, center, table)


def centred(states, center):
    keys, values = (each.float() for each in states)
    if center is None:
        return keys, values
    return keys - center.key_offset(*cos_sin(*keys.shape[2:])), values - center.value_offset()


def assert_coded_as_the_reference(x, pages, quantizer):
    """Equal codes but for coordinates on a boundary, equal scales but for their last bit."""
    tokens, bits, head_dim = x.shape[2], pages.bits, pages.head_dim
    reference, dense = quantizer.quantize(x), to_dense(pages, tokens)
    expected, given = (unpack(each.codes, bits, head_dim).int() for each in (reference, dense))
    differ = expected != given
    unit = quantizer.rotate(x) / x.norm(dim=-1, keepdim=True)
    boundaries = torch.stack(quantizer.codebook.boundaries)
    distances = (unit.unsqueeze(-1) - boundaries).abs().amin(-1) * head_dim**0.5
    assert not (differ & (distances > NEAR)).any()
    assert differ.sum() <= 1e-4 * differ.numel() + 1
    alike = ~differ.any(-1)  # a code on a tie changes the scale of its vector
    scales = dense.scales[alike], reference.scales[alike]
    torch.testing.assert_close(*scales, rtol=1.1e-3, atol=1e-7)


CASES = {  # bits, head_dim, codebook, dtype, tokens of each launch
    "3 bits, one prompt": (3, 128, "lloyd-max", torch.float32, (0, 96)),
    "3 bits, fast, in turns": (3, 64, "fast", torch.bfloat16, (0, 63, 64, 90)),
    "2 bits": (2, 64, "lloyd-max", torch.float16, (0, 20, 120, 131)),
    "4 bits": (4, 64, "lloyd-max", torch.float32, (0, 1, 70)),
}


@pytest.mark.parametrize("centre", [True, False], ids=["centred", "as it is"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_pages_hold_the_codes_of_the_reference(case, centre):
    bits, head_dim, codebook, dtype, cuts = case
    shape = (1, 2, cuts[-1], head_dim)
    config = QuantConfig(bits=bits, codebook=codebook)
    quantizers = [TurboQuantizer(head_dim, each, DEVICE) for each in (config, config.for_values)]
    center = Center(20 * normal(1, 2, head_dim), normal(1, 2, head_dim)) if centre else None
    keys = (normal(*shape, seed=1) + (20 if centre else 0)).to(dtype)
    values = normal(1, cuts[-1], 2, head_dim, seed=2).to(dtype).transpose(1, 2)
    pages = poisoned(shape, bits)
    write((keys, values), pages, quantizers, center, cuts)
    for x, side, quantizer in zip(centred((keys, values), center), pages, quantizers):
        assert_coded_as_the_reference(x, side, quantizer)


def test_tokens_one_by_one_are_coded_as_at_once():
    quantizer = TurboQuantizer(64, QuantConfig(), DEVICE)
    center = Center(20 * normal(2, 1, 64), normal(2, 1, 64))
    states = normal(2, 1, 83, 64, seed=1), normal(2, 1, 83, 64, seed=2)
    at_once, in_turns = poisoned((2, 1, 83, 64), 3), poisoned((2, 1, 83, 64), 3)
    write(states, at_once, (quantizer,) * 2, center, (0, 83))
    write(states, in_turns, (quantizer,) * 2, center, (0, 5, 46, 48, 49, 63, 64, 65, 83))
    for one, other in zip(
        *([to_dense(side, 83) for side in pages] for pages in (at_once, in_turns))
    ):
        assert torch.equal(one.codes, other.codes)
        assert torch.equal(one.scales, other.scales)


def test_a_token_leaves_the_others_as_they_were():
    quantizer = TurboQuantizer(64, QuantConfig(), DEVICE)
    states = normal(1, 1, 5, 64, seed=1), normal(1, 1, 5, 64, seed=2)
    pages = poisoned((1, 1, 5, 64), 3)
    write(states, pages, (quantizer,) * 2, None, (0, 5))
    before = to_dense(pages[0], 5)
    # The same slot again, as after a crop: a new token takes the place of the old one alone.
    write((states[1], states[0]), pages, (quantizer,) * 2, None, (4, 5))
    after = to_dense(pages[0], 5)
    assert torch.equal(before.codes[:, :, :4], after.codes[:, :, :4])
    assert torch.equal(before.scales[:, :, :4], after.scales[:, :, :4])
    assert not torch.equal(before.codes[:, :, 4:], after.codes[:, :, 4:])


def test_vectors_of_zeros_and_infinities_are_told_by_their_scales():
    quantizer = TurboQuantizer(64, QuantConfig(), DEVICE)
    keys = normal(1, 1, 4, 64)
    keys[:, :, 1] = 0
    keys[:, :, 2, 5] = float("inf")
    pages = poisoned((1, 1, PAGE, 64), 3)
    write((keys, keys), pages, (quantizer,) * 2, None, (0, 4))
    for side in pages:
        scales = side.token_scales(0, PAGE)[0, 0]
        assert scales[1] == 0
        assert scales[:4].isfinite().tolist() == [True, True, False, True]
        assert scales[4:].isnan().all()  # nothing beyond the newest token is written


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("codebook", ["lloyd-max", "fast"])
def test_a_negative_level_carries_its_code_and_its_square(bits, codebook):
    quantizer = TurboQuantizer(128, QuantConfig(bits=bits, codebook=codebook))
    squares = tables(quantizer)[1]
    half = 2**bits // 2
    assert [square % 16 for square in squares] == list(range(half))[::-1]
    levels = quantizer.codebook.centroids[half:].double() * 128**0.5
    for square, level in zip(squares, levels.tolist()):
        assert square / LARGEST == pytest.approx(level**2, abs=8 / LARGEST)
    assert squares[-1] < 2**23  # fp32 counts to there from 2^23
    assert 128 * squares[-1] < 2**31  # the sum over a vector stays an int32
