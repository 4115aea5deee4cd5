"""Coding in C against the quantizer: the same codes but on ties, each vector alone."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from turbo_kv.bench.quantize import differing
from turbo_kv.kernels import choose, native, native_quantizer
from turbo_kv.kernels.native_quantizer import NativeQuantizer
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.packing import unpack
from turbo_kv.quant.quantizer import TurboQuantizer

DEVICE = torch.device("cpu")
SHAPES = [(3, 64), (3, 128), (2, 32), (4, 48), (4, 256)]
COMPILED = choose.why_not_coded(64, QuantConfig())
pytestmark = pytest.mark.skipif(COMPILED is not None, reason=COMPILED or "")


@pytest.fixture(autouse=True)
def poisoned_outputs(monkeypatch):
    """What the kernel leaves unwritten is 255, or NaN."""
    empty = torch.Tensor.new_empty

    def poisoned(x, *shape, **kwargs):
        made = empty(x, *shape, **kwargs)
        return made.fill_(float("nan") if made.is_floating_point() else 255)

    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned)


@pytest.mark.parametrize(("bits", "head_dim"), SHAPES)
def test_codes_are_the_quantizers_but_on_ties(bits, head_dim):
    @settings(max_examples=12)
    @given(
        vectors=st.integers(1, 200),
        dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
        size=st.sampled_from([1e-3, 1.0, 100.0]),
        codebook=st.sampled_from(["lloyd-max", "fast"]),
        rotation=st.booleans(),
        scale_bits=st.sampled_from([8, 16]),
    )
    def check(*, vectors, dtype, size, **choices):
        config = QuantConfig(bits=bits, **choices)
        reference, native_one = TurboQuantizer(head_dim, config), NativeQuantizer(head_dim, config)
        x = (size * torch.randn(1, 2, vectors, head_dim)).to(dtype)
        x[:, :, vectors // 2] = 0
        coded, expected = native_one.quantize(x), reference.quantize(x)
        given, wanted = (unpack(each.codes, bits, head_dim) for each in (coded, expected))
        differ = given != wanted
        edges = torch.stack(reference.codebook.boundaries)
        unit = reference.rotate(x) / x.float().norm(dim=-1, keepdim=True).clamp_min(1e-30)
        near = (unit.unsqueeze(-1) - edges).abs().amin(-1) * head_dim**0.5 < 3e-5
        assert not (differ & ~near).any()
        alike = ~differ.any(-1)
        steps = coded.scales[alike].view(torch.uint8 if scale_is_byte(coded) else torch.int16)
        others = expected.scales[alike].view(steps.dtype)
        assert (steps.int() - others.int()).abs().max() <= 1

    check()


def scale_is_byte(packed):
    return packed.scales.dtype == torch.uint8


def test_ties_are_few():
    x = torch.randn(1, 1, 20000, 128, generator=torch.Generator().manual_seed(0))
    coded = NativeQuantizer(128, QuantConfig()).quantize(x)
    assert differing(x, coded, 0, TurboQuantizer(128)) < 1e-5 * x.numel()


@given(st.integers(1, 3000), st.integers(0, 2999))
@settings(max_examples=20)
def test_a_vector_is_coded_alike_among_many_and_alone(count, index):
    quantizer = NativeQuantizer(64, QuantConfig())
    x = torch.randn(1, 1, count, 64)
    one = slice(index % count, index % count + 1)
    among, alone = quantizer.quantize(x), quantizer.quantize(x[:, :, one])
    assert torch.equal(among.codes[:, :, one], alone.codes)
    assert torch.equal(among.scales[:, :, one], alone.scales)


def test_threads_change_no_bit(monkeypatch):
    quantizer, x = NativeQuantizer(64, QuantConfig()), torch.randn(1, 2, 5000, 64)
    packed = quantizer.quantize(x)
    for threads, openmp in ((1, native.openmp()), (2, native.openmp()), (3, None)):
        monkeypatch.setattr(native_quantizer.torch, "get_num_threads", lambda n=threads: n)
        monkeypatch.setattr(native, "openmp", lambda pool=openmp: pool)
        again = quantizer.quantize(x)
        assert torch.equal(again.codes, packed.codes)
        assert torch.equal(again.scales, packed.scales)


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), 1e6])
def test_what_no_code_can_store_is_refused_as_ever(broken):
    x = torch.randn(1, 1, 40, 64)
    x[0, 0, 7, 3] = broken
    for make in (TurboQuantizer, NativeQuantizer):
        with pytest.raises(ValueError, match=r"hold NaN or infinity|the largest norm is"):
            make(64, QuantConfig()).quantize(x)


def test_nothing_is_coded_as_nothing_and_a_copy_codes_alike():
    quantizer = NativeQuantizer(64, QuantConfig())
    assert quantizer.quantize(torch.randn(1, 2, 0, 64)).seq_len == 0
    x = torch.randn(1, 2, 5, 64)
    assert torch.equal(copy.deepcopy(quantizer).quantize(x).codes, quantizer.quantize(x).codes)


REFUSED = {
    "sketch": (64, QuantConfig(qjl=True), "QJL"),
    "trellis": (64, QuantConfig(codebook="trellis"), "trellis"),
    "head_dim": (80 + 8, QuantConfig(), "head_dim is 88"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_c_does_not_code_the_quantizer_does(case):
    head_dim, config, why = case
    assert why in choose.why_not_coded(head_dim, config)
    assert type(choose.quantizer(head_dim, config, DEVICE)) is TurboQuantizer
    assert type(choose.quantizer(64, QuantConfig(), DEVICE)) is NativeQuantizer
