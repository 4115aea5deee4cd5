"""The cache as a whole: whom it serves, what it holds, and what it says to misuse."""

import copy
from collections.abc import Iterator

import pytest
import torch
from transformers import GPT2Config, LlamaConfig, LlamaForCausalLM, MistralConfig, Qwen2Config
from transformers.models.smollm3 import SmolLM3Config

from turbo_kv.cache.kv_cache import TurboKVCache
from turbo_kv.cache.plan import Plan
from turbo_kv.cache.rope import RopeTable
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.quantizer import TurboQuantizer

NAMES = ["codes", "scales", "signs", "residual_norms", "means", "open_page", "exact_window"]


@torch.no_grad()
def filled(model, tokens=300, batch=1, **options) -> TurboKVCache:
    cache = TurboKVCache.for_model(model, **options)
    torch.manual_seed(0)
    model(torch.randint(model.config.vocab_size, (batch, tokens)), cache=cache)
    return cache


SHARED = (type, Plan, RopeTable, TurboQuantizer)  # the same for every layer, whatever it holds


def tensors_reachable_from(value, seen: set[int]) -> Iterator[torch.Tensor]:
    """Every tensor that an object holds on to, through attributes and containers."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        # A temporary list of the values would die, and the next one could have its id.
        for item in value.values() if isinstance(value, dict) else value:
            yield from tensors_reachable_from(item, seen)
    elif hasattr(value, "__dict__") and not isinstance(value, SHARED):
        yield from tensors_reachable_from(vars(value), seen)


@pytest.mark.parametrize("exact_window", [0, 20])
@pytest.mark.parametrize("quant", [QuantConfig(), QuantConfig(bits=2, qjl=True)], ids=str)
def test_what_it_holds_is_what_it_counts(random_qwen2, quant, exact_window):
    cache = filled(random_qwen2, 100, batch=2, quant=quant, exact_window=exact_window)
    held = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in tensors_reachable_from(cache.layers, set())
    }
    assert cache.nbytes == sum(held.values())
    assert cache.nbytes == sum(cache.stored().values())
    assert list(cache.stored()) == NAMES


def test_no_full_precision_copy_of_a_token_stays(random_qwen2):
    cache = filled(random_qwen2, 300)
    for tensor in tensors_reachable_from(cache.layers, set()):
        means = tensor.shape == (1, 2, 32)
        scales = tensor.dtype == torch.float16 and tensor.ndim == 3
        assert means or scales or tensor.dtype == torch.uint8 or tensor.numel() == 0


def test_an_empty_cache_holds_nothing(random_qwen2):
    cache = TurboKVCache(random_qwen2.config)
    assert cache.nbytes == 0
    assert cache.stored() == dict.fromkeys(NAMES, 0)
    assert cache.get_seq_length() == 0


def test_keys_and_values_of_64_shrink_by_4_7_and_more():
    config = Qwen2Config(
        hidden_size=128,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=8192,
    )
    cache = TurboKVCache(config)
    cache.update(*torch.randn(2, 1, 2, 8150, 64), layer_idx=0)
    bf16 = 2 * 2 * 8150 * 64 * 2
    assert bf16 / cache.nbytes >= 4.7


def test_rows_are_moved_in_every_layer(random_qwen2):
    cache = filled(random_qwen2, 50, batch=2)
    before = [layer.restore() for layer in cache.layers]
    cache.reorder_cache(torch.tensor([1, 1]))
    cache.batch_repeat_interleave(2)
    cache.batch_select_indices(torch.tensor([3, 0, 1]))
    for layer, states in zip(cache.layers, before):
        for now, then in zip(layer.restore(), states):
            assert torch.equal(now, then[[1, 1, 1]])


def test_crop_and_reset_give_bytes_back(random_qwen2):
    cache = filled(random_qwen2, 300)
    fewer = filled(random_qwen2, 200)
    cache.crop(-100)
    assert cache.get_seq_length() == 200
    assert cache.nbytes == fewer.nbytes
    cache.reset()
    assert cache.nbytes == 0
    assert not cache.is_compileable


@torch.no_grad()
def test_a_copy_goes_its_own_way_with_the_same_model(random_qwen2):
    cache = filled(random_qwen2, 50)
    twin = copy.deepcopy(cache)
    before = cache.layers[0].restore()
    token = torch.tensor([[7]])
    for each in (twin, cache):
        random_qwen2(token, cache=each)
    random_qwen2(token, cache=twin)
    assert (cache.get_seq_length(), twin.get_seq_length()) == (51, 52)
    assert torch.equal(cache.layers[0].restore()[0][:, :, :50], before[0])
    assert torch.equal(twin.layers[0].restore()[0][:, :, :51], cache.layers[0].restore()[0])
    try:
        random_qwen2.set_attn_implementation("turbo_kv")
        assert twin.plan.attention() == "turbo_kv"
    finally:
        random_qwen2.set_attn_implementation("sdpa")


def test_keys_and_values_are_quantized_apart(random_qwen2):
    states = torch.randn(2, 1, 2, 50, 32)
    exactness = {}
    for quantize in ("both", "keys", "values", "neither"):
        cache = TurboKVCache(random_qwen2.config, quantize=quantize)
        cache.update(*states, layer_idx=0)
        exactness[quantize] = tuple(
            torch.allclose(*pair, atol=1e-5) for pair in zip(cache.layers[0].restore(), states)
        )
    assert exactness == {
        "both": (False, False),
        "keys": (False, True),
        "values": (True, False),
        "neither": (True, True),
    }


def test_a_sketch_of_keys_alone_leaves_values_without(random_qwen2):
    cache = filled(random_qwen2, 50, quant=QuantConfig(qjl=True, qjl_on="keys"))
    states = cache.layers[0].states()
    assert states.keys.signs is not None
    assert states.values.signs is None


@torch.no_grad()
def test_the_bias_of_a_padded_row_is_turned_by_its_padding(random_qwen2):
    """Keys that are bias alone leave nothing to code, padded or not."""
    mask = torch.tensor([[0] * 40 + [1] * 60, [1] * 100])
    attention = random_qwen2.model.layers[0].self_attn
    bias = attention.k_proj.bias.view(1, 2, 1, 32).expand(2, -1, 100, -1)
    quant = QuantConfig(centering="bias")
    cache = TurboKVCache.for_model(random_qwen2, quant, mask)
    cos, sin = cache.plan.rope.cos_sin(0, 100)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cos, sin = cos[positions][:, None], sin[positions][:, None]
    left, right = bias.chunk(2, dim=-1)
    keys = bias * cos + torch.cat((-right, left), dim=-1) * sin
    cache.update(keys, torch.zeros(2, 2, 100, 32), 0)
    scales = cache.layers[0].states().keys.scales
    rounding = torch.finfo(torch.float16).eps / 2 * bias.norm(dim=-1).max()
    assert scales[0, :, 40:].max() < rounding
    assert scales[1].max() < rounding
    unaware = TurboKVCache.for_model(random_qwen2, quant)
    unaware.update(keys, torch.zeros(2, 2, 100, 32), 0)
    assert unaware.layers[0].states().keys.scales[0, :, 40:].min() > 0.5


def test_beams_share_the_padding_of_their_prompt(random_qwen2):
    mask = torch.tensor([[0, 1, 1], [1, 1, 1]])
    quant = QuantConfig(centering="bias")
    cache = TurboKVCache.for_model(random_qwen2, quant, mask)
    cache.update(*torch.randn(2, 6, 2, 3, 32), layer_idx=0)
    means = cache.layers[0].center.key_mean
    assert torch.equal(means[0], means[2])
    assert not torch.allclose(means[2], means[3])
    cache.reset()
    with pytest.raises(ValueError, match="padding of 2 rows"):
        cache.update(*torch.randn(2, 3, 2, 3, 32), layer_idx=0)


def test_biases_are_asked_for_where_they_cannot_be_known(random_qwen2):
    with pytest.raises(ValueError, match="for_model"):
        TurboKVCache(random_qwen2.config, QuantConfig(centering="bias"))
    llama = LlamaConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=8)
    model = LlamaForCausalLM(llama)
    with pytest.raises(ValueError, match="adds no bias"):
        TurboKVCache.for_model(model, QuantConfig(centering="bias"))


SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (MistralConfig(**SIZES, sliding_window=16), "sliding_attention"),
        (Qwen2Config(**SIZES, use_sliding_window=True, max_window_layers=2), "layer 2 .*sliding"),
        (GPT2Config(n_layer=1), "rope"),
        (SmolLM3Config(**SIZES, pad_token_id=0), "layer 3 .*no RoPE"),
        (
            LlamaConfig(
                **SIZES,
                rope_parameters={"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4},
            ),
            "rope type is 'yarn'",
        ),
    ],
    ids=["mistral", "qwen2", "gpt2", "smollm3", "yarn"],
)
def test_models_it_would_get_wrong_are_refused(config, says):
    with pytest.raises(ValueError, match=says):
        TurboKVCache(config)


def test_a_head_dim_without_a_codebook_is_refused():
    config = Qwen2Config(**{**SIZES, "hidden_size": 32}, vocab_size=8)  # head_dim 8
    with pytest.raises(ValueError, match="head_dim is 8"):
        TurboKVCache(config)


@pytest.mark.parametrize(
    ("options", "says"), [({"exact_window": -1}, "exact_window"), ({"quantize": "k"}, "quantize")]
)
def test_choices_are_checked(random_qwen2, options, says):
    with pytest.raises(ValueError, match=says):
        TurboKVCache(random_qwen2.config, **options)


def test_a_model_with_more_layers_is_refused(random_qwen2):
    cache = filled(random_qwen2, 10)
    with pytest.raises(ValueError, match="3 layers and was given layer 3"):
        cache.update(*torch.randn(2, 1, 2, 1, 32), layer_idx=3)


@torch.no_grad()
def test_a_forward_that_broke_off_is_noticed(random_qwen2):
    cache = filled(random_qwen2, 10)
    keys, values = torch.randn(2, 1, 2, 1, 32)
    cache.update(keys, values, 0)  # and no other layer
    with pytest.raises(ValueError, match="different numbers of tokens"):
        random_qwen2(torch.tensor([[1]]), cache=cache)
    cache.reset()
    random_qwen2(torch.tensor([[1]]), cache=cache)


@torch.no_grad()
def test_nan_in_the_weights_is_found_in_its_layer(random_qwen2):
    broken = copy.deepcopy(random_qwen2)
    broken.model.layers[1].self_attn.v_proj.weight[3, 3] = float("nan")
    with pytest.raises(ValueError, match=r"layer 1: values: .*NaN"):
        filled(broken, 10)


def test_caches_share_their_tables(random_qwen2):
    caches = filled(random_qwen2, 5), filled(random_qwen2, 5)
    quantizers = {layer._stores._quantizers for cache in caches for layer in cache.layers}
    assert len(quantizers) == 1
