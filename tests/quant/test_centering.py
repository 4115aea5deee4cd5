from dataclasses import FrozenInstanceError

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

from turbo_kv.quant.centering import Center, apply_rope, remove_rope
from turbo_kv.quant.quantizer import TurboQuantizer

D, T = 64, 40


def rope(start, stop, head_dim=D, theta=1e6):
    frequencies = theta ** -(torch.arange(0, head_dim, 2).double() / head_dim)
    angles = torch.arange(start, stop).double()[:, None] * frequencies
    angles = torch.cat((angles, angles), -1)
    return angles.cos().float(), angles.sin().float()


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def residual(keys, values, cos, sin):
    center = Center.from_mean(keys, values, cos, sin)
    return keys - center.key_offset(cos, sin)


def test_rope_is_that_of_transformers():
    x, (cos, sin) = gaussian(2, 3, T, D), rope(5, 5 + T)
    expected, _ = apply_rotary_pos_emb(x, x, cos[None], sin[None])
    torch.testing.assert_close(apply_rope(x, cos, sin), expected)


@given(start=st.integers(0, 30_000), seed=st.integers(0, 100))
def test_rope_is_undone_and_keeps_norms(start, seed):
    x, (cos, sin) = gaussian(2, 3, 7, D, seed=seed), rope(start, start + 7)
    turned = apply_rope(x, cos, sin)
    torch.testing.assert_close(remove_rope(turned, cos, sin), x, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))


def test_rows_may_have_positions_of_their_own():
    x = gaussian(2, 3, T, D)
    (cos, sin), (late_cos, late_sin) = rope(0, T), rope(100, 100 + T)
    turned = apply_rope(x, torch.stack((cos, late_cos)), torch.stack((sin, late_sin)))
    assert torch.equal(turned[0], apply_rope(x[:1], cos, sin)[0])
    assert torch.equal(turned[1], apply_rope(x[1:], late_cos, late_sin)[0])


@given(start=st.integers(0, 30_000), norm=st.sampled_from((10.0, 300.0, 900.0)))
def test_a_constant_before_rope_leaves_the_residual_unchanged(start, norm):
    """But for its own rounding to fp16, and at any position; counting slots from 0 in place of
    positions, as left padding does, too."""
    keys, values = gaussian(1, 2, T, D), gaussian(1, 2, T, D, seed=1)
    constant = gaussian(1, 2, 1, D, seed=2)
    constant *= norm / constant.norm(dim=-1, keepdim=True)
    position, slot = rope(start, start + T), rope(0, T)
    shifted = keys + apply_rope(constant, *position)
    for known in (position, slot):
        expected, got = (residual(k, values, *known) for k in (keys, shifted))
        assert (got - expected).norm(dim=-1).max() < torch.finfo(torch.float16).eps / 2 * norm


def test_the_code_of_keys_does_not_see_a_constant():
    quantizer = TurboQuantizer(D)
    cos, sin = rope(0, T)
    keys, values = gaussian(1, 2, T, D), gaussian(1, 2, T, D, seed=1)
    shifted = keys + apply_rope(300 * gaussian(1, 2, 1, D, seed=2) / 8, cos, sin)

    def error(k, centred):
        center = Center.from_mean(k, values, cos, sin)
        offset = center.key_offset(cos, sin) * centred
        return (quantizer.dequantize(quantizer.quantize(k - offset)) + offset - k).norm()

    assert error(shifted, True) == pytest.approx(error(keys, True).item(), rel=0.01)
    assert error(shifted, False) > 20 * error(keys, False)


def test_the_mean_is_of_the_first_tokens_and_frozen():
    keys, values = gaussian(2, 2, 300, D).half(), gaussian(2, 2, 300, D, seed=1).half()
    cos, sin = rope(0, 300)
    center = Center.from_mean(keys, values, cos, sin, tokens=256)
    other_future = keys.clone()
    other_future[:, :, 256:] = 100.0
    again = Center.from_mean(other_future, values, cos, sin, tokens=256)
    assert torch.equal(center.key_mean, again.key_mean)
    assert center.key_mean.dtype == center.value_mean.dtype == torch.float16
    expected = remove_rope(keys, cos, sin)[:, :, :256].mean(2)
    torch.testing.assert_close(center.key_mean, expected.half())
    torch.testing.assert_close(center.value_mean, values[:, :, :256].float().mean(2).half())
    with pytest.raises(FrozenInstanceError):
        center.key_mean = expected


def test_fewer_tokens_than_asked_for_are_averaged_as_they_are():
    keys, values = gaussian(1, 2, 1, D), gaussian(1, 2, 1, D, seed=1)
    cos, sin = rope(9, 10)
    center = Center.from_mean(keys, values, cos, sin)
    torch.testing.assert_close(center.key_offset(cos, sin), keys, atol=2e-3, rtol=0)
    assert torch.equal(center.value_offset(), values.half().float())


def test_no_token_has_no_mean():
    nothing = torch.zeros(1, 2, 0, D)
    with pytest.raises(ValueError, match="no token"):
        Center.from_mean(nothing, nothing, *rope(0, 0))


def test_the_bias_is_removed_exactly_where_positions_are_true():
    key_bias, value_bias = gaussian(2, D).bfloat16() * 50, gaussian(2, D, seed=1).bfloat16()
    content, (cos, sin) = gaussian(3, 2, T, D, seed=2), rope(11, 11 + T)
    keys = apply_rope(content + key_bias[:, None].float(), cos, sin)
    center = Center.from_bias(key_bias, value_bias, batch=3)
    assert center.key_mean.shape == center.value_mean.shape == (3, 2, D)
    rest = keys - center.key_offset(cos, sin)
    torch.testing.assert_close(rest, apply_rope(content, cos, sin), atol=1e-3, rtol=0)
    assert torch.equal(center.value_offset()[0, :, 0], value_bias.float())


def test_bytes_are_counted_and_rows_reordered():
    center = Center(gaussian(2, 3, D), gaussian(2, 3, D, seed=1))
    assert center.nbytes == 2 * 2 * 3 * D * 2
    swapped = center.map_batch(lambda tensor: tensor.flip(0))
    assert torch.equal(swapped.key_mean[0], center.key_mean[1])
    assert torch.equal(swapped.value_mean[1], center.value_mean[0])


def test_a_center_holds_no_graph():
    bias = gaussian(2, D).requires_grad_()
    keys = gaussian(1, 2, T, D).requires_grad_()
    for center in (Center.from_bias(bias, bias, 1), Center.from_mean(keys, keys, *rope(0, T))):
        assert not center.key_mean.requires_grad
        assert not center.value_mean.requires_grad
