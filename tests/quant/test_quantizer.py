from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from turbo_kv.quant.config import BITS, QuantConfig
from turbo_kv.quant.lloyd_max import codebook, distortion
from turbo_kv.quant.packing import unpack
from turbo_kv.quant.quantizer import VALUES_AT_ONCE, TurboQuantizer

HEAD_DIMS = (64, 80, 96, 128, 256)
ONE_BIT = QuantConfig(bits=2, qjl=True, qjl_budget="inside")
CODEBOOKS = {1: ONE_BIT, **{bits: QuantConfig(bits=bits) for bits in BITS}}
LEAST_SQUARES = {  # distortion by head_dim and bits when each vector has its best scale
    64: {1: 0.3578, 2: 0.1130, 3: 0.0325, 4: 0.0088},
    128: {1: 0.3605, 2: 0.1152, 3: 0.0335, 4: 0.0092},
}
SKETCHED = QuantConfig(qjl=True)


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def heads(head_dim, tokens=1000, seed=0):
    return 11 * gaussian(1, 2, tokens, head_dim, seed=seed)


def without_sketch(quantizer):
    quantizer.sketch = None
    return quantizer


def relative_error(restored, x):
    return ((restored - x).square().sum(-1) / x.square().sum(-1)).mean().item()


def slope(restored, x):
    return ((restored * x).sum(-1) / x.square().sum(-1)).mean().item()


def round_trip(quantizer, x):
    return quantizer.dequantize(quantizer.quantize(x))


def stored(packed):
    return [t for t in vars(packed).values() if isinstance(t, torch.Tensor)]


@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("bits", CODEBOOKS)
def test_distortion_is_that_of_theory_and_never_under_shannons(bits, head_dim):
    quantizer = without_sketch(TurboQuantizer(head_dim, CODEBOOKS[bits]))
    x = heads(head_dim, tokens=4000)
    packed = quantizer.quantize(x)
    plain = replace(packed, scales=x.norm(dim=-1).half())
    promised = distortion(bits, head_dim)
    assert relative_error(quantizer.dequantize(plain), x) == pytest.approx(promised, rel=0.01)
    # A scale turns no vector: least squares leaves sin² of the angle, matched norms 2 - 2 cos.
    promised = 2 - 2 * (1 - LEAST_SQUARES[head_dim][bits]) ** 0.5
    matched = relative_error(quantizer.dequantize(packed), x)
    assert matched == pytest.approx(promised, rel=0.03)
    assert matched > 4**-bits


@pytest.mark.parametrize("config", [QuantConfig(), QuantConfig(rotation=False)])
def test_the_scale_matches_norms(config):
    x = heads(128)
    restored = round_trip(TurboQuantizer(128, config), x)
    torch.testing.assert_close(restored.norm(dim=-1), x.norm(dim=-1), rtol=1e-3, atol=0)


def test_another_rule_may_set_the_scales():
    quantizer, x = TurboQuantizer(128), heads(128)
    packed = quantizer.quantize(x)
    ones = replace(packed, scales=torch.ones_like(packed.scales))
    rotated, chosen = quantizer.rotate(x), quantizer.dequantize_rotated(ones)
    least_squares = (rotated * chosen).sum(-1) / chosen.square().sum(-1)
    best = quantizer.dequantize(replace(packed, scales=least_squares.half()))
    assert relative_error(best, x) < relative_error(quantizer.dequantize(packed), x)
    assert slope(best, x) == pytest.approx(0.967, abs=0.002)
    assert slope(quantizer.dequantize(packed), x) == pytest.approx(0.983, abs=0.002)


@pytest.mark.parametrize("head_dim", HEAD_DIMS)
def test_each_coordinate_takes_its_nearest_centroid(head_dim):
    quantizer, x = TurboQuantizer(head_dim), heads(head_dim, tokens=50)
    rotated = quantizer.rotate(x)
    unit = rotated / rotated.norm(dim=-1, keepdim=True)
    codes = unpack(quantizer.quantize(x).codes, 3, head_dim)
    distances = (unit.unsqueeze(-1) - codebook(3, head_dim).centroids).abs()
    chosen = distances.gather(-1, codes.long().unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(chosen, distances.amin(-1), atol=1e-7, rtol=0)


@pytest.mark.parametrize("head_dim", [64, 128])
def test_more_bits_leave_less_error(head_dim):
    x = heads(head_dim)
    errors = [
        relative_error(round_trip(TurboQuantizer(head_dim, QuantConfig(bits=bits)), x), x)
        for bits in (4, 3, 2)
    ]
    assert errors[0] < errors[1] / 3 < errors[2] / 9


@pytest.mark.parametrize(("head_dim", "unrotated"), [(64, 0.3), (128, 0.4)])
def test_rotation_rescues_a_channel_thirty_times_as_large(head_dim, unrotated):
    x = heads(head_dim)
    x[..., 5] *= 30
    plain = TurboQuantizer(head_dim, QuantConfig(rotation=False))
    assert relative_error(round_trip(plain, x), x) == pytest.approx(unrotated, rel=0.1)
    rotated = relative_error(round_trip(TurboQuantizer(head_dim), x), x)
    assert rotated < 1.1 * distortion(3, head_dim)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("budget", ["on-top", "inside"])
def test_the_sketch_makes_logits_unbiased(bits, budget):
    x = heads(64)
    slopes = [
        slope(round_trip(TurboQuantizer(64, config), x), x)
        for config in (
            QuantConfig(bits=bits, qjl=True, qjl_budget=budget, seed=seed) for seed in range(20)
        )
    ]
    assert sum(slopes) / len(slopes) == pytest.approx(1.0, abs=0.005)


def test_without_the_sketch_logits_shrink():
    assert slope(round_trip(TurboQuantizer(128), heads(128)), heads(128)) < 0.985


@pytest.mark.parametrize(
    ("head_dim", "config", "nbytes"),
    [
        (128, QuantConfig(), 50),
        (64, QuantConfig(), 26),
        (80, QuantConfig(), 32),
        (96, QuantConfig(), 38),
        (256, QuantConfig(), 98),
        (18, QuantConfig(), 9),
        (128, QuantConfig(bits=2), 34),
        (128, QuantConfig(bits=4), 66),
        (128, SKETCHED, 50 + 18),
        (128, QuantConfig(qjl=True, qjl_budget="inside"), 34 + 18),
        (64, ONE_BIT, 8 + 2 + 8 + 2),
    ],
)
def test_a_vector_takes_its_codes_and_its_norms_and_no_more(head_dim, config, nbytes):
    for tokens in (1, 7):
        packed = TurboQuantizer(head_dim, config).quantize(heads(head_dim, tokens))
        assert packed.nbytes == 2 * tokens * nbytes


@settings(max_examples=40)
@given(
    head_dim=st.sampled_from((16, 64, 80, 128)),
    sketch=st.booleans(),
    shape=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    cuts=st.lists(st.integers(0, 24), max_size=5).map(sorted),
)
def test_one_update_equals_many(head_dim, sketch, shape, cuts):
    quantizer = TurboQuantizer(head_dim, QuantConfig(qjl=sketch))
    x = 20 * gaussian(*shape, 24, head_dim)
    whole = quantizer.quantize(x)
    first, *rest = (quantizer.quantize(part) for part in x.tensor_split(cuts, dim=2))
    for part in rest:
        first = first.cat(part)
    assert all(map(torch.equal, stored(first), stored(whole)))
    restored = quantizer.dequantize(whole)
    parts = [quantizer.dequantize(whole.slice(t, t + 1)) for t in range(24)]
    assert torch.equal(torch.cat(parts, 2), restored)


def test_one_update_equals_many_across_blocks():
    quantizer = TurboQuantizer(64, SKETCHED)
    x = gaussian(1, 1, 2 * VALUES_AT_ONCE // 64 + 1, 64)
    whole = quantizer.quantize(x)
    parts = quantizer.quantize(x[:, :, :700]).cat(quantizer.quantize(x[:, :, 700:]))
    assert all(map(torch.equal, stored(parts), stored(whole)))


@pytest.mark.parametrize("head_dim", [*HEAD_DIMS, 16, 18])
@pytest.mark.parametrize("config", [QuantConfig(), SKETCHED, QuantConfig(rotation=False)])
def test_scores_need_no_unrotated_key(head_dim, config):
    quantizer, x = TurboQuantizer(head_dim, config), heads(head_dim, tokens=20)
    query = gaussian(head_dim)
    packed = quantizer.quantize(x)
    rotated = quantizer.dequantize_rotated(packed) @ quantizer.rotate(query)
    torch.testing.assert_close(rotated, quantizer.dequantize(packed) @ query, atol=1e-3, rtol=1e-4)


def test_the_seed_decides_and_nothing_else():
    x = heads(64, tokens=20)
    torch.manual_seed(1)
    first = TurboQuantizer(64, SKETCHED).quantize(x)
    torch.manual_seed(2)
    assert all(map(torch.equal, stored(first), stored(TurboQuantizer(64, SKETCHED).quantize(x))))
    other = TurboQuantizer(64, QuantConfig(qjl=True, seed=1)).quantize(x)
    assert not torch.equal(first.codes, other.codes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_any_float_and_any_memory_order_is_coded(dtype):
    quantizer, x = TurboQuantizer(64), heads(64, tokens=9).to(dtype)
    packed = quantizer.quantize(x.transpose(1, 2).contiguous().transpose(1, 2))
    assert all(map(torch.equal, stored(packed), stored(quantizer.quantize(x.float()))))
    assert quantizer.dequantize(packed).dtype == torch.float32


def test_what_is_stored_holds_no_graph():
    quantizer, x = TurboQuantizer(64, SKETCHED), heads(64, tokens=3)
    packed = quantizer.quantize(x.clone().requires_grad_())
    assert not any(tensor.requires_grad for tensor in stored(packed))
    assert all(map(torch.equal, stored(packed), stored(quantizer.quantize(x))))


@pytest.mark.parametrize("config", [QuantConfig(), SKETCHED])
def test_no_tokens_are_coded_as_no_tokens(config):
    quantizer = TurboQuantizer(64, config)
    packed = quantizer.quantize(torch.zeros(1, 2, 0, 64))
    assert (packed.seq_len, packed.nbytes) == (0, 0)
    assert quantizer.dequantize(packed).shape == (1, 2, 0, 64)
    some = quantizer.quantize(heads(64, tokens=3))
    assert all(map(torch.equal, stored(packed.cat(some)), stored(some)))


@pytest.mark.parametrize("config", [QuantConfig(bits=3), QuantConfig(bits=4, qjl=True)])
@pytest.mark.parametrize("norm", [0.0, 1e-30, 1e-6, 1e-3, 6e4])
def test_zeros_and_extreme_norms_give_no_nan(config, norm):
    quantizer = TurboQuantizer(64, config)
    x = norm * torch.nn.functional.normalize(heads(64, tokens=5), dim=-1)
    restored = round_trip(quantizer, x)
    assert restored.isfinite().all()
    assert (restored - x).norm() <= 0.3 * x.norm() + 1e-6


def test_a_zero_vector_has_scale_zero_and_stays_zero():
    quantizer, x = TurboQuantizer(64, SKETCHED), heads(64, tokens=5)
    x[:, :, 2] = 0
    packed = quantizer.quantize(x)
    assert not packed.scales[:, :, 2].any()
    assert not quantizer.dequantize(packed)[:, :, 2].any()


@pytest.mark.parametrize("norm", [7e4, 1e30])
def test_a_norm_beyond_fp16_is_refused_by_its_size(norm):
    x = heads(64, tokens=5)
    x[0, 1, 3] *= norm / x[0, 1, 3].norm()
    with pytest.raises(ValueError, match=rf"largest norm is {norm:.6g}".replace("+", r"\+")):
        TurboQuantizer(64).quantize(x)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@given(place=st.integers(0, 63), token=st.integers(0, 4))
def test_nan_and_infinity_are_refused_and_counted(bad, place, token):
    x = heads(64, tokens=5)
    x[0, 1, token, place] = bad
    with pytest.raises(ValueError, match="1 of 10 vectors hold NaN or infinity"):
        TurboQuantizer(64, SKETCHED).quantize(x)


@pytest.mark.parametrize("head_dim", [0, 8, 15, 65, -64])
def test_other_head_dims_are_refused(head_dim):
    with pytest.raises(ValueError, match=f"head_dim is {head_dim}.*even"):
        TurboQuantizer(head_dim)


def test_vectors_of_another_length_are_refused():
    with pytest.raises(ValueError, match="vectors of 128 values; this codes 64"):
        TurboQuantizer(64).quantize(heads(128, tokens=2))


def test_a_codebook_in_place_of_another_codes_and_restores():
    wide, narrow = (TurboQuantizer(64, QuantConfig(bits=bits)) for bits in (4, 2))
    vectors = torch.randn(1, 1, 9, 64, generator=torch.Generator().manual_seed(5))
    expected = narrow.dequantize(narrow.quantize(vectors))
    wide.codebook = narrow.codebook
    assert torch.equal(wide.dequantize(wide.quantize(vectors)), expected)
