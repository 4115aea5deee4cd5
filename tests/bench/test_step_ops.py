"""The launches of a benchmark's decode step, against plain PyTorch."""

import pytest
import torch
import torch.nn.functional as F

from turbo_kv.quant.centering import apply_rope

pytest.importorskip("triton", reason="Triton has no wheel for this platform")
from turbo_kv.bench.step_ops import added_and_normed, gated, turn

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def bf16(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).bfloat16().to(DEVICE)


def assert_close(given, expected):
    torch.testing.assert_close(given.float(), expected.float(), rtol=1e-2, atol=1e-2)


def test_heads_are_turned_in_place_and_no_others():
    qkv, angles = bf16(2, 5, 64), torch.randn(1, 32, device=DEVICE).repeat(1, 2)
    before = qkv.clone()
    turn(qkv[:, :3], angles.cos(), angles.sin())
    expected = apply_rope(before[:, :3].unsqueeze(2), angles.cos(), angles.sin()).squeeze(2)
    assert_close(qkv[:, :3], expected)
    assert torch.equal(qkv[:, 3:], before[:, 3:])


def test_gate_and_up_are_multiplied():
    gate_up = bf16(2, 2 * 1100)  # more than one block
    gate, up = gate_up.float().chunk(2, dim=1)
    assert_close(gated(gate_up), F.silu(gate) * up)


def test_a_sum_is_kept_and_normed():
    x, more, weight = bf16(2, 100), bf16(2, 100) / 3, bf16(100)
    expected = x.float() + more.float()
    out = added_and_normed(x, more, weight)
    assert_close(x, expected)
    assert_close(out, F.rms_norm(expected, (100,), weight.float(), 1e-6))
