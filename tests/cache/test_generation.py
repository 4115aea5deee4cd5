"""`model.generate` on a packed cache: its own tokens where nothing is lost, the store's elsewhere.

The cache that quantizes neither side runs all of the machinery on exact vectors, so every promise
of `generate` can be held to equality.
"""

import copy

import pytest
import torch
from transformers import (
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from turbo_kv.cache.attention import NAME
from turbo_kv.cache.kv_cache import TurboKVCache
from turbo_kv.cache.store import PAGE, tensors
from turbo_kv.quant.config import QuantConfig

OTHERS = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}


@pytest.fixture(params=["sdpa", "eager", NAME])
def model(request, random_qwen2):
    """The random model under each attention implementation, its own restored afterwards."""
    random_qwen2.set_attn_implementation(request.param)
    yield random_qwen2
    random_qwen2.set_attn_implementation("sdpa")


@pytest.fixture
def packed_model(random_qwen2):
    random_qwen2.set_attn_implementation(NAME)
    yield random_qwen2
    random_qwen2.set_attn_implementation("sdpa")


def prompt(length, batch=1, seed=0):
    torch.manual_seed(seed)
    return torch.randint(1, 256, (batch, length))


def generate(model, ids, cache=None, tokens=24, **options):
    cache = DynamicCache(config=model.config) if cache is None else cache
    options = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0, **options}
    if "attention_mask" not in options:
        options["attention_mask"] = torch.ones_like(ids)
    return model.generate(ids, cache=cache, max_new_tokens=tokens, **options)


def unquantized(model, **options):
    return TurboKVCache(model.config, quantize="neither", **options)


@pytest.mark.parametrize("options", [{}, {"read_back": True}], ids=str)
@pytest.mark.parametrize("length", [1, 40, 100])
def test_without_quantization_the_tokens_are_the_models_own(model, length, options):
    ids = prompt(length)
    assert torch.equal(generate(model, ids, unquantized(model, **options)), generate(model, ids))


@pytest.mark.parametrize("length", [1, 40, 100])
def test_a_window_in_16_bits_changes_no_token_of_a_model_in_16(random_qwen2, length):
    model, ids = copy.deepcopy(random_qwen2).bfloat16(), prompt(length)
    windowed = unquantized(model, exact_window=8)
    assert torch.equal(generate(model, ids, windowed), generate(model, ids))


def test_left_padding_changes_no_token(model):
    ids, mask = prompt(50, batch=2), torch.ones(2, 50, dtype=torch.long)
    mask[0, :30] = 0
    own = generate(model, ids, attention_mask=mask)
    assert torch.equal(generate(model, ids, unquantized(model), attention_mask=mask), own)
    alone = generate(model, ids[:1, 30:], unquantized(model))
    assert torch.equal(own[0, 50:], alone[0, 20:])


def test_beams_are_reordered(model):
    ids, mask = prompt(50, batch=2), torch.ones(2, 50, dtype=torch.long)
    mask[1, :7] = 0
    beams = {"num_beams": 3, "num_return_sequences": 2, "attention_mask": mask}
    own = generate(model, ids, **beams)
    assert torch.equal(generate(model, ids, unquantized(model), **beams), own)


def test_sampling_follows_the_same_draws(model):
    ids, drawn = prompt(40), []
    for cache in (None, unquantized(model)):
        torch.manual_seed(3)
        drawn.append(generate(model, ids, cache, do_sample=True))
    assert torch.equal(*drawn)


def test_a_prompt_may_come_in_chunks(model):
    ids = prompt(100)
    own = generate(model, ids)
    assert torch.equal(generate(model, ids, unquantized(model), prefill_chunk_size=33), own)


def test_a_conversation_goes_on_in_one_cache(model):
    first, more = prompt(40), prompt(10, seed=1)
    own, packed = None, unquantized(model)
    exact = DynamicCache(config=model.config)
    for cache in (exact, packed):
        said = generate(model, first, cache, tokens=12)
        answer = generate(model, torch.cat((said, more), dim=1), cache, tokens=12)
        own = answer if own is None else own
        assert torch.equal(answer, own)
    assert packed.get_seq_length() == exact.get_seq_length() == own.shape[1] - 1


@pytest.mark.parametrize("draft", ["assistant", "prompt lookup"])
def test_assisted_decoding_of_the_store_is_plain_greedy_decoding(packed_model, draft):
    """Drafts are read, judged, cropped. The prompt fills the mean's window: one mean for both."""
    ids = prompt(270)
    helper = (
        {"assistant_model": copy.deepcopy(packed_model)}
        if draft == "assistant"
        else {"prompt_lookup_num_tokens": 3}
    )
    plain, assisted = (TurboKVCache(packed_model.config, read_back=True) for _ in range(2))
    expected = generate(packed_model, ids, plain, tokens=40)
    assert torch.equal(generate(packed_model, ids, assisted, tokens=40, **helper), expected)
    assert not torch.equal(generate(packed_model, ids, tokens=40), expected)
    behind = expected.shape[1] - assisted.get_seq_length()
    assert behind in (1, 2)
    for one, other in zip(plain.layers, assisted.layers):
        length = min(one.get_seq_length(), other.get_seq_length())
        same = one.states().keys.slice(0, length), other.states().keys.slice(0, length)
        codes = [packed.codes for packed in same]
        assert (codes[0] != codes[1]).float().mean() < 1e-3  # rounding of longer products


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("attention", ["sdpa", NAME])
def test_other_models_with_rope_and_grouped_queries_work(name, attention):
    make_config, make_model = OTHERS[name]
    config = make_config(
        vocab_size=256,
        hidden_size=128,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=512,
        initializer_range=0.15,
        attn_implementation=attention,
        **({"sliding_window": None} if name == "mistral" else {}),
    )
    torch.manual_seed(0)
    model = make_model(config).eval()
    ids = prompt(60)
    assert torch.equal(generate(model, ids, unquantized(model)), generate(model, ids))
    cache = TurboKVCache(config)
    generate(model, ids, cache)
    assert cache.get_seq_length() == 60 + 23
    errors = {}
    for bits in (2, 3, 4):
        quantized = TurboKVCache(config, QuantConfig(bits=bits), read_back=True)
        errors[bits] = relative_error(model, ids, quantized)
    assert errors[2] > errors[3] > errors[4] > 1e-3


@torch.no_grad()
def relative_error(model, ids, cache):
    exact = model(ids).logits
    return ((model(ids, cache=cache).logits - exact).norm() / exact.norm()).item()


@torch.no_grad()
def test_fewer_bits_err_more_and_every_choice_counts(random_qwen2):
    """Reading back in one forward: 2 bits cannot pass for the exact model."""
    ids = prompt(200)

    def error(quantize="both", **choices):
        quant = QuantConfig(**choices)
        cache = TurboKVCache.for_model(random_qwen2, quant, read_back=True, quantize=quantize)
        return relative_error(random_qwen2, ids, cache)

    assert error(bits=2) > error(bits=3) > error(bits=4) > 1e-3
    assert error(centering="off") > 2 * error(centering="bias")
    assert error(quantize="keys") < error()
    assert error(quantize="values") < error()
    assert error(quantize="neither") < 1e-4
    assert error(bits=2, qjl=True) != error(bits=2)


@torch.no_grad()
def test_reading_back_does_not_depend_on_how_the_text_arrives(packed_model):
    ids = prompt(400)
    whole = TurboKVCache(packed_model.config, read_back=True)
    logits = packed_model(ids, cache=whole).logits[:, 300:]
    chunked = TurboKVCache(packed_model.config, read_back=True)
    parts = [
        packed_model(part, cache=chunked).logits
        for part in ids.split([300, 50, *[1] * 40, 10], dim=1)
    ]
    parts = torch.cat(parts[1:], dim=1)
    assert (parts - logits).norm() < 1e-2 * logits.norm()


@torch.no_grad()
def test_growing_equals_quantizing_from_scratch(packed_model):
    """2,000 tokens, around every page border, the same codes as one update of all states so far.

    And the same logits. What lies between two borders is compared at the next one.
    """
    ids = prompt(260)
    growing = RecordingCache(packed_model.config)
    token = packed_model(ids, cache=growing).logits[:, -1:].argmax(-1)
    for _ in range(2_000):
        if growing.get_seq_length() % PAGE not in (PAGE - 1, 0, 1):
            token = packed_model(token, cache=growing).logits.argmax(-1)
            continue
        scratch = growing.from_scratch()
        for layer, fresh in zip(growing.layers, scratch.layers):
            for side in ("keys", "values"):
                mine = tensors(getattr(layer.states(), side))
                again = tensors(getattr(fresh.states(), side))
                assert all(torch.equal(mine[name], again[name]) for name in mine)
        expected = packed_model(token, cache=scratch).logits
        logits = packed_model(token, cache=growing).logits
        assert torch.allclose(logits, expected, atol=1e-4, rtol=1e-4)
        token = logits.argmax(-1)


class RecordingCache(TurboKVCache):
    """Remembers the states of every update, as no cache should."""

    def __init__(self, config):
        super().__init__(config)
        self.config = config
        self.states = [[] for _ in self.layers]

    def update(self, key_states, value_states, layer_idx, *args, **kwargs):
        self.states[layer_idx].append((key_states, value_states))
        return super().update(key_states, value_states, layer_idx, *args, **kwargs)

    def from_scratch(self):
        cache = TurboKVCache(self.config)
        for layer_idx, updates in enumerate(self.states):
            cache.update(*(torch.cat(side, dim=2) for side in zip(*updates)), layer_idx)
        return cache


def test_padding_that_no_mean_saw_leaves_the_other_tokens_alone(random_qwen2):
    """A padded batch holds the codes of its unpadded rows, to rounding."""
    ids, mask = prompt(80, batch=2), torch.ones(2, 80, dtype=torch.long)
    mask[0, :30] = 0
    for quant in (QuantConfig(centering="off"), QuantConfig(centering="bias")):
        together = TurboKVCache.for_model(random_qwen2, quant, mask)
        alone = TurboKVCache.for_model(random_qwen2, quant)
        generate(random_qwen2, ids, together, tokens=1, attention_mask=mask)
        generate(random_qwen2, ids[:1, 30:], alone, tokens=1)
        for padded, plain in zip(together.layers, alone.layers):
            values = padded.restore()[1][:1, :, 30:], plain.restore()[1]
            assert (values[0] - values[1]).norm() < 1e-2 * values[1].norm()


@torch.no_grad()
def test_padding_costs_quality_at_most(packed_model):
    """Pad tokens may enter a mean: that row's codes are others, and not much worse."""
    ids, mask = prompt(120, batch=2), torch.ones(2, 121, dtype=torch.long)
    mask[0, :60] = 0
    exact = DynamicCache(config=packed_model.config)
    cache = TurboKVCache(packed_model.config)
    for each in (exact, cache):
        packed_model(ids, attention_mask=mask[:, :120], cache=each)
    token = prompt(1, batch=2)
    logits = [
        packed_model(token, attention_mask=mask, cache=each).logits[:, 0] for each in (exact, cache)
    ]
    errors = (logits[1] - logits[0]).norm(dim=-1) / logits[0].norm(dim=-1)
    padded, unpadded = errors
    assert padded < 2 * unpadded


def test_an_empty_prompt_is_refused(random_qwen2):
    with pytest.raises(ValueError, match="prompt is empty"):
        generate(random_qwen2, prompt(0), TurboKVCache(random_qwen2.config))


def test_generation_stops_at_the_last_position(random_qwen2):
    model = copy.deepcopy(random_qwen2)
    model.config.max_position_embeddings = 48
    with pytest.raises(ValueError, match="max_position_embeddings"):
        generate(model, prompt(40), TurboKVCache(model.config))


def test_a_cache_of_one_batch_is_not_used_for_another(random_qwen2):
    cache = TurboKVCache(random_qwen2.config)
    generate(random_qwen2, prompt(10), cache, tokens=2)
    with pytest.raises(ValueError, match=r"1 rows .* given 2 rows"):
        generate(random_qwen2, prompt(20, batch=2), cache, tokens=2)
    cache.reset()
    generate(random_qwen2, prompt(20, batch=2), cache, tokens=2)
