"""The kernels that write pages, in Triton and in CUDA C: emulated on a CPU, or on a GPU."""

from functools import partial
from itertools import pairwise

import pytest
import torch

pytest.importorskip("triton", reason="Triton has no wheel for this platform")

import emulated_cuda
from pages_on_device import DEVICE, cos_sin, normal

from turbo_kv.kernels import append as door
from turbo_kv.kernels import compiled_cuda, quantize_cuda, quantize_triton
from turbo_kv.kernels.choose import why_not_cuda_c
from turbo_kv.kernels.pages import PAGE, SIDES, empty_pages, to_dense
from turbo_kv.kernels.quantize_triton import tables
from turbo_kv.quant.centering import Center
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.packing import unpack
from turbo_kv.quant.quantizer import TurboQuantizer

LARGEST = 2**20  # what a level's square is weighted with
NEAR = 1e-5  # of a boundary, in units of a coordinate's standard deviation

ON_GPU = ("CUDA C",) if why_not_cuda_c(torch.device(DEVICE)) is None else ()
IN_CUDA_C = ON_GPU if DEVICE == "cuda" else ("CUDA C", "CUDA C, early copies")


@pytest.fixture(params=("Triton", *IN_CUDA_C))
def write(request, monkeypatch):
    """`written` on every path of the device; on a CPU both kinds of kernels are emulated."""
    if request.param == "Triton":
        return partial(written, quantize_triton.append)
    if DEVICE == "cpu":
        if emulated_cuda.COMPILER is None:
            pytest.skip("no C++ compiler")
        kernel = partial(emulated_cuda.kernel, eager="early" in request.param)
        monkeypatch.setattr(compiled_cuda, "kernel", kernel)
    return partial(written, quantize_cuda.append)


def poisoned(shape, bits):
    """Pages of keys and values with one length, full of rubbish."""
    pages = tuple(empty_pages(shape, bits, side, DEVICE) for side in SIDES)
    for side in pages:
        side.words.fill_(-1)
        side.scales.fill_(float("nan"))
    return pages


def written(append, states, pages, quantizers, center, cuts):  # noqa: PLR0917 (what coding takes)
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
    "2 bits, 128 wide": (2, 128, "lloyd-max", torch.bfloat16, (0, 33)),
    "4 bits": (4, 64, "lloyd-max", torch.float32, (0, 1, 70)),
    "4 bits, 128 wide": (4, 128, "lloyd-max", torch.bfloat16, (0, 17, 66)),
    "4 bits, fast": (4, 64, "fast", torch.float16, (0, 66)),
}


@pytest.mark.parametrize("centre", [True, False], ids=["centred", "as it is"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_pages_hold_the_codes_of_the_reference(write, case, centre):
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


def test_tokens_one_by_one_are_coded_as_at_once(write):
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


def test_a_token_leaves_the_others_as_they_were(write):
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


def test_vectors_of_zeros_and_infinities_are_told_by_their_scales(write):
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


@pytest.mark.parametrize("write", IN_CUDA_C, indirect=True)
def test_a_program_of_several_warps_codes_as_one_of_one(write, monkeypatch):
    quantizer = TurboQuantizer(64, QuantConfig(), DEVICE)
    center = Center(20 * normal(1, 2, 64), normal(1, 2, 64))
    states = tuple(normal(1, 2, 150, 64, seed=seed).bfloat16() for seed in (1, 2))
    alone, together = poisoned((1, 2, 150, 64), 3), poisoned((1, 2, 150, 64), 3)
    write(states, alone, (quantizer,) * 2, center, (0, 20, 150))
    monkeypatch.setattr(quantize_cuda, "REGISTERS", {1: 168, 2: 128})
    monkeypatch.setattr(quantize_cuda, "FEW_PAGES", 0)
    write(states, together, (quantizer,) * 2, center, (0, 20, 150))  # the last warp has no page
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one.words, other.words)
        assert torch.equal(one.token_scales(0, 150), other.token_scales(0, 150))


def test_rows_that_begin_anywhere_are_coded_too(write):
    quantizer = TurboQuantizer(64, QuantConfig(), DEVICE)
    wide = normal(1, 1, 20, 65).bfloat16()
    pages, expected = poisoned((1, 1, 20, 64), 3), poisoned((1, 1, 20, 64), 3)
    write((wide[..., 1:],) * 2, pages, (quantizer,) * 2, None, (0, 20))
    write((wide[..., 1:].contiguous(),) * 2, expected, (quantizer,) * 2, None, (0, 20))
    for one, other in zip(pages, expected, strict=True):
        assert torch.equal(to_dense(one, 20).codes, to_dense(other, 20).codes)


@pytest.mark.parametrize(("why", "taken"), [(None, "CUDA C"), ("no NVRTC", "Triton")])
def test_one_door_leads_to_what_can_be(monkeypatch, why, taken):
    came = []
    monkeypatch.setattr(door, "why_not_cuda_c", lambda device: why)
    for name, module in {"CUDA C": quantize_cuda, "Triton": quantize_triton}.items():
        monkeypatch.setattr(module, "append", lambda *all_, name=name: came.append(name))
    door.append((torch.zeros(1, 1, 1, 64),) * 2, None, None, None, None)
    assert came == [taken]


@pytest.mark.parametrize(
    ("pages", "sides", "many"), [(1, 5120, False), (9, 8, False), (512, 8, True), (64, 64, True)]
)
def test_few_pages_are_spread_and_many_share_tables(pages, sides, many):
    most = max(quantize_cuda.REGISTERS)
    assert quantize_cuda._warps(pages, sides) == (most if many else 1)


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


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("codebook", ["lloyd-max", "fast"])
def test_two_bytes_tell_the_square_of_a_level(bits, codebook):
    """As cuda/quantize.cu picks them: by a code; of 4 bits, by a level without its sign."""
    quantizer = TurboQuantizer(128, QuantConfig(bits=bits, codebook=codebook))
    coding = quantize_cuda._tables(quantizer, quantizer)[1][0]
    upper, lower = bytes(coding.upper), bytes(coding.lower)
    levels = quantizer.codebook.centroids.double() * 128**0.5
    for n, level in enumerate(levels[8:] if bits == 4 else levels):
        square = (255 * upper[n] + lower[n]) / coding.unit**2
        assert square == pytest.approx(level.item() ** 2, abs=0.51 / coding.unit**2)
