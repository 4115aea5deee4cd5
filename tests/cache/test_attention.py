"""The attention named "turbo_kv": what it is given, when, and that a mask always comes along."""

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import DynamicCache
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from turbo_kv.cache import attention
from turbo_kv.cache.kv_cache import TurboKVCache
from turbo_kv.cache.layer import DECODE_TOKENS
from turbo_kv.kernels import reference
from turbo_kv.kernels.states import PackedStates


@pytest.fixture
def model(random_qwen2):
    """The random model under "turbo_kv", and under its own attention afterwards."""
    random_qwen2.set_attn_implementation(attention.NAME)
    yield random_qwen2
    random_qwen2.set_attn_implementation("sdpa")


@pytest.fixture
def attended(monkeypatch):
    """What the attention function was handed, call by call."""
    calls = []
    forward = attention.attention_forward

    def recording(module, query, key, *rest, **kwargs):
        calls.append(key)
        return forward(module, query, key, *rest, **kwargs)

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, attention.NAME, recording)
    return calls


def tokens(length, batch=1, vocabulary=256):
    torch.manual_seed(length)
    return torch.randint(1, vocabulary, (batch, length))


def test_the_name_is_registered_with_its_mask():
    assert attention.NAME == "turbo_kv"
    assert attention.NAME in ALL_ATTENTION_FUNCTIONS
    assert attention.NAME in ALL_MASK_ATTENTION_FUNCTIONS


@torch.no_grad()
def test_prefill_gets_tensors_and_decode_the_packed_states(model, attended):
    cache = TurboKVCache(model.config)
    for length, kind in [
        (100, torch.Tensor),
        (1, PackedStates),
        (DECODE_TOKENS, PackedStates),
        (DECODE_TOKENS + 1, torch.Tensor),
    ]:
        attended.clear()
        model(tokens(length), cache=cache)
        assert [type(key) for key in attended] == [kind] * 3


class LargestFloat(TorchDispatchMode):
    """Remembers the bytes of the largest floating-point tensor that is made."""

    nbytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.is_floating_point():
            self.nbytes = max(self.nbytes, made.nbytes)
        return made


@torch.no_grad()
def test_a_decode_step_restores_no_whole_layer(model):
    cache = TurboKVCache(model.config)
    model(tokens(4000, batch=3), cache=cache)
    keys_of_a_layer = 3 * 2 * 4000 * 32 * 4
    with LargestFloat() as largest:
        model(tokens(1, batch=3), cache=cache)
    assert 0 < largest.nbytes < 0.6 * keys_of_a_layer
    model.set_attn_implementation("sdpa")
    with LargestFloat() as largest:
        model(tokens(1, batch=3), cache=cache)
    assert largest.nbytes >= keys_of_a_layer


@torch.no_grad()
def test_packed_states_have_no_shape_to_mistake_for_a_tensor(model):
    cache = TurboKVCache(model.config)
    model(tokens(40), cache=cache)
    states, same = cache.layers[0].update(*torch.randn(2, 1, 2, 1, 32))
    assert states is same
    query = torch.randn(1, 4, 1, 32)
    with pytest.raises((AttributeError, TypeError)):
        ALL_ATTENTION_FUNCTIONS["sdpa"](
            model.model.layers[0].self_attn, query, states, states, None
        )
    module = model.model.layers[0].self_attn
    output, weights = attention.attention_forward(module, query, states, states, None)
    assert weights is None
    assert output.shape == (1, 1, 4, 32)
    assert output.is_contiguous()
    assert torch.allclose(output.transpose(1, 2), reference.attention(query, states), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize("padding", [0, 20])
@pytest.mark.parametrize("exact_window", [0, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_packed_and_restored_attention_agree(random_qwen2, steps, padding, exact_window, dtype):
    """The same codes, read by "turbo_kv" and by the attention of everyone else."""
    tolerance = {torch.float32: 1e-3, torch.bfloat16: 0.1}[dtype]
    model = copy.deepcopy(random_qwen2).to(dtype)
    mask = torch.ones(2, 90 + steps, dtype=torch.long)
    mask[0, :padding] = 0
    logits = {}
    for name in (attention.NAME, "sdpa"):
        model.set_attn_implementation(name)
        cache = TurboKVCache(model.config, exact_window=exact_window)
        model(tokens(90, 2), attention_mask=mask[:, :90], cache=cache)
        logits[name] = model(tokens(steps, 2), attention_mask=mask, cache=cache).logits
    packed, restored = logits.values()
    assert not torch.equal(packed, restored)
    assert (packed - restored).norm() < tolerance * restored.norm()


@torch.no_grad()
def test_other_caches_run_under_the_name_as_under_sdpa(model):
    ids, mask = tokens(50, batch=2), torch.ones(2, 51, dtype=torch.long)
    mask[0, :9] = 0
    logits = []
    for name in ("turbo_kv", "sdpa"):
        model.set_attn_implementation(name)
        cache = DynamicCache(config=model.config)
        model(ids, attention_mask=mask[:, :50], cache=cache)
        logits.append(model(tokens(1, 2), attention_mask=mask, cache=cache).logits)
    assert torch.equal(*logits)


@torch.no_grad()
def test_padding_is_never_attended(model):
    """Whatever the pad tokens are, a padded row answers alike."""
    ids, mask = tokens(60, batch=2), torch.ones(2, 61, dtype=torch.long)
    mask[0, :25] = 0
    logits = []
    for pad in (3, 200):
        ids[0, :25] = pad
        cache = TurboKVCache(model.config, quantize="neither")
        model(ids, attention_mask=mask[:, :60], cache=cache)
        logits.append(model(tokens(1, 2), attention_mask=mask, cache=cache).logits)
    assert torch.allclose(*logits, atol=1e-4)
