"""The compiled quantizer of a CPU: the reference's bits, or a reason."""

import pytest
import torch

from turbo_kv.kernels import compiled
from turbo_kv.kernels.compiled import CompiledQuantizer, _join, why_not
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.packing import pack
from turbo_kv.quant.quantizer import VALUES_AT_ONCE, TurboQuantizer


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_eight_codes_in_a_word_are_packed_as_bytes_are(bits):
    codes = torch.randint(2**bits, (50, 64), dtype=torch.uint8)
    words = _join(bits, codes.view(torch.int64))
    joined = words.view(torch.uint8).unflatten(-1, (-1, 8))[..., :bits].flatten(-2)
    assert torch.equal(joined, pack(codes, bits))


@pytest.mark.skipif(why_not(QuantConfig(), 128) is not None, reason="no C++ compiler")
def test_compiled_codes_and_scales_are_the_references():
    quantizer, reference = CompiledQuantizer(128), TurboQuantizer(128)
    x = torch.randn(1, 2, VALUES_AT_ONCE // 128, 128)
    x[:, :, 0] = 0
    given, expected = quantizer.quantize(x), reference.quantize(x)
    assert torch.equal(given.codes, expected.codes)
    assert torch.equal(given.scales, expected.scales)


def test_what_cannot_be_compiled_says_why(monkeypatch):
    assert "QJL" in why_not(QuantConfig(qjl=True), 128)
    assert "multiple of 8" in why_not(QuantConfig(), 20)
    monkeypatch.setattr(compiled, "which", lambda name: None)
    with pytest.raises(ValueError, match=r"cannot compile the quantizer: no C\+\+ compiler"):
        CompiledQuantizer(128)
