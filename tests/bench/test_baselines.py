"""Laws of the caches we are compared with, as the harness sees them."""

from types import SimpleNamespace

import pytest
import torch
from transformers import Cache
from transformers.cache_utils import QuantizedLayer
from transformers.utils import is_hqq_available, is_optimum_quanto_available

from turbo_kv.bench.baselines import BASELINES, Bf16Layer, Fp8Layer, Prefilled, backends, held_bytes
from turbo_kv.measure.next_token import compare

HEAD_DIM = 64
BATCH, HEADS = 2, 3
INSTALLED = {"quanto": is_optimum_quanto_available, "HQQ": is_hqq_available}


class HalvingLayer(Prefilled, QuantizedLayer):
    """A backend for transformers' quantized layer that needs no package: halves on restoring."""

    def _quantize(self, tensor, axis):
        return tensor.clone(), {"scale": torch.full((5,), 0.5)}

    def _dequantize(self, coded):
        states, meta = coded
        return states * meta["scale"][0].to(states.dtype)


def states(length, seed=0, scale=1.0):
    shape = (2, BATCH, HEADS, length, HEAD_DIM)
    keys, values = scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return keys, values


def test_bf16_rounds_and_nothing_else():
    keys, values = states(70)
    layer = Bf16Layer()
    layer.update(keys[:, :, :50], values[:, :, :50])
    seen = layer.update(keys[:, :, 50:], values[:, :, 50:])
    assert torch.equal(seen[0], keys.bfloat16().float())
    assert torch.equal(seen[1], values.bfloat16().float())
    assert held_bytes(SimpleNamespace(layers=[layer])) == 2 * keys.numel() * 2


@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
def test_fp8_keeps_three_bits_of_mantissa_at_any_scale(scale):
    keys, values = states(70, scale=scale)
    layer = Fp8Layer()
    layer.update(keys[:, :, :50], values[:, :, :50])
    for seen, exact in zip(layer.update(keys[:, :, 50:], values[:, :, 50:]), (keys, values)):
        largest = exact.abs().amax(-1, keepdim=True)
        assert ((seen - exact).abs() <= exact.abs() / 16 + largest / 2**14).all()
        assert not torch.equal(seen, exact)
    assert layer.get_seq_length() == 70
    vectors = 2 * BATCH * HEADS * 70
    assert held_bytes(SimpleNamespace(layers=[layer])) == vectors * (HEAD_DIM + 2)


def test_fp8_of_nothing_is_nothing():
    zeros = torch.zeros(1, 1, 4, HEAD_DIM)
    seen = Fp8Layer().update(zeros, zeros)
    assert torch.equal(seen[0], zeros)


def test_a_quantized_layer_sees_its_first_prompt_restored_and_then_its_window_exact():
    layer = HalvingLayer(residual_length=8)
    first, later = states(10)[0].bfloat16().float(), states(3, seed=1)[0].bfloat16().float()
    seen, _ = layer.update(first, first)
    assert torch.equal(seen, first / 2)
    seen, _ = layer.update(later, later)
    assert torch.equal(seen, torch.cat((first / 2, later), dim=2))


def test_the_window_is_weighed():
    layer = HalvingLayer(residual_length=8)
    for length in (10, 3):
        layer.update(*states(length))
    coded, window, scale = 2 * BATCH * HEADS * 10, 2 * BATCH * HEADS * 3, 2 * 5 * 4
    assert held_bytes(SimpleNamespace(layers=[layer])) == (coded + window) * HEAD_DIM * 2 + scale


def test_a_shared_storage_weighs_once():
    shared = torch.zeros(100)
    layer = SimpleNamespace(a=shared, b=[shared[:10], {"c": (shared[5:],)}])
    assert held_bytes(SimpleNamespace(layers=[layer])) == 400


def test_the_backends_are_named_with_their_versions():
    known = backends()
    assert (known["optimum-quanto"] is None) == (not is_optimum_quanto_available())
    assert (known["hqq"] is None) == (not is_hqq_available())


@pytest.mark.parametrize("baseline", BASELINES, ids=lambda baseline: baseline.name)
def test_every_baseline_works_or_says_what_is_missing(baseline, random_qwen2):
    backend = baseline.name.partition(",")[0]
    if not INSTALLED.get(backend, lambda: True)():
        with pytest.raises(ImportError, match="install"):
            baseline.cache(random_qwen2.config)
        return
    cache = baseline.cache(random_qwen2.config)
    assert isinstance(cache, Cache)
    tokens = torch.randint(128, (1, 352), generator=torch.Generator().manual_seed(0))
    result = compare(random_qwen2, tokens, cache, chunk=32).predictions
    assert 0 < result.kl.mean() < 3
    assert cache.get_seq_length() == 352
    assert held_bytes(cache) > 0
