"""The quantizer's whole path under the rules of Apple's GPU, and the rules themselves."""

import pytest
import torch
from mps_mode import MpsMode, NotOnMps

from turbo_kv.quant.centering import Center
from turbo_kv.quant.config import BITS, QuantConfig
from turbo_kv.quant.quantizer import TurboQuantizer


@pytest.mark.parametrize("head_dim", [18, 64, 80])
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("qjl", [False, True])
def test_quantizing_and_restoring_use_only_what_mps_has(head_dim, bits, qjl):
    quantizer = TurboQuantizer(head_dim, QuantConfig(bits=bits, qjl=qjl))
    x = torch.randn(1, 2, 5, head_dim, dtype=torch.bfloat16)
    with MpsMode() as mode:
        packed = quantizer.quantize(x)
        packed = packed.cat(quantizer.quantize(x[:, :, :1])).crop(5)
        quantizer.dequantize(packed)
    assert "aten::mm" in mode.seen
    assert "aten::embedding" in mode.seen


def test_centering_uses_only_what_mps_has():
    keys, values = torch.randn(2, 1, 2, 5, 64)
    cos, sin = torch.randn(2, 5, 64)
    with MpsMode():
        center = Center.from_mean(keys, values, cos, sin)
        keys - center.key_offset(cos, sin)
        Center.from_bias(keys[0, :, 0], values[0, :, 0], batch=2).key_offset(cos, sin)


INT32 = torch.arange(8, dtype=torch.int32)


@pytest.mark.parametrize(
    "banned",
    [
        lambda: torch.ones(3, dtype=torch.float64),
        lambda: torch.ones(3).double(),
        lambda: torch.ones(3, dtype=torch.complex64),
        lambda: INT32.to(torch.uint16),
        lambda: INT32.long() << 1,
        lambda: INT32.to(torch.uint8) >> 1,
        lambda: 1 << INT32,
        lambda: INT32 << INT32.long(),
        lambda: torch.ones(3).frexp(),
        lambda: torch._int_mm(INT32.view(2, 4).to(torch.int8), INT32.view(4, 2).to(torch.int8)),
    ],
)
def test_what_mps_lacks_is_refused(banned):
    with MpsMode(), pytest.raises(NotOnMps):
        banned()


def test_what_mps_has_passes():
    with MpsMode():
        assert ((INT32 << INT32 >> 1 & 3) + torch.ones(8)).sum() > 0


def test_a_caller_may_know_better():
    with MpsMode(also=frozenset({"aten::frexp"})):
        torch.ones(3).frexp()
