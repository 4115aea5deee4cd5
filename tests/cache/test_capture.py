"""Capture sees what the model saw, changes nothing, and says what it cannot read."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mps_mode import MpsMode
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

from turbo_kv.cache import capture as capture_module
from turbo_kv.cache.capture import capture
from turbo_kv.cache.query_metric import POSITIONS
from turbo_kv.cache.rope import RopeTable

VOCABULARY = 128


def tokens(length: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randint(VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def plain_forward(model, ids):
    """Logits and post-RoPE (queries, keys, values) per layer, from one forward and hooks."""
    seen, handles = {}, []
    for layer in model.model.layers:
        for name in ("q_proj", "k_proj", "v_proj"):
            handles.append(
                getattr(layer.self_attn, name).register_forward_hook(
                    lambda module, args, output, key=(layer.self_attn.layer_idx, name): (
                        seen.__setitem__(key, output)
                    )
                )
            )
    logits = model(ids).logits
    for handle in handles:
        handle.remove()
    positions = torch.arange(ids.shape[1])[None]
    cos, sin = model.model.rotary_emb(logits, positions)
    layers = []
    for index in range(len(model.model.layers)):
        query, key, value = (
            seen[index, name].unflatten(-1, (-1, cos.shape[-1])).transpose(1, 2)
            for name in ("q_proj", "k_proj", "v_proj")
        )
        layers.append((*apply_rotary_pos_emb(query, key, cos, sin), value))
    return logits, layers


@settings(max_examples=12)
@given(length=st.integers(1, 90), chunk=st.integers(16, 64), seed=st.integers(0, 99))
def test_equals_one_plain_forward_however_it_is_chunked(random_qwen2, length, chunk, seed):
    ids = tokens(length, seed=seed)
    logits, layers = plain_forward(random_qwen2, ids)
    captured = capture(random_qwen2, ids, chunk=chunk, queries=16)
    close = {"rtol": 1e-4, "atol": 1e-3}
    torch.testing.assert_close(captured.logits, logits[:, -1], **close)
    for layer, (queries, keys, values) in zip(captured.layers, layers, strict=True):
        torch.testing.assert_close(layer.queries, queries[:, :, -16:], **close)
        torch.testing.assert_close(layer.keys, keys, **close)
        torch.testing.assert_close(layer.values, values, **close)


def test_in_one_chunk_the_logits_are_unchanged_to_the_bit(random_qwen2):
    ids = tokens(60)
    with torch.inference_mode():
        expected = random_qwen2(ids, logits_to_keep=1).logits[:, -1]
    assert torch.equal(capture(random_qwen2, ids).logits, expected)


def test_keeps_the_last_queries_even_across_chunks(random_qwen2):
    ids = tokens(600)
    captured = capture(random_qwen2, ids)
    assert [layer.queries.shape for layer in captured.layers] == [(1, 4, 256, 32)] * 3
    assert capture(random_qwen2, ids[:, :40]).layers[0].queries.shape == (1, 4, 40, 32)
    _, layers = plain_forward(random_qwen2, ids)
    torch.testing.assert_close(
        captured.layers[-1].queries, layers[-1][0][:, :, -256:], rtol=1e-4, atol=1e-3
    )


def test_the_biases_and_the_table_undo_the_rotation(random_qwen2):
    """With the rotation removed, each key is its projection: bias plus a part that varies."""
    captured = capture(random_qwen2, tokens(64))
    attention = random_qwen2.model.layers[0].self_attn
    layer = captured.layers[0]
    assert torch.equal(layer.key_bias.flatten(), attention.k_proj.bias)
    assert torch.equal(layer.value_bias.flatten(), attention.v_proj.bias)
    assert layer.scaling == attention.scaling
    half = torch.cat((layer.keys[..., 16:], -layer.keys[..., :16]), dim=-1)
    unrotated = layer.keys * captured.cos + half * captured.sin
    content = unrotated - layer.key_bias[:, None]
    assert content.norm(dim=-1).max() < 0.5 * layer.keys.norm(dim=-1).min()


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_rows_equal_the_rows_alone(random_qwen2, side):
    lengths, longest = (70, 43, 5), 70
    rows = [tokens(length, seed=length) for length in lengths]
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    kept = []
    for index, row in enumerate(rows):
        span = slice(longest - row.shape[1], longest) if side == "left" else slice(0, row.shape[1])
        ids[index, span], mask[index, span] = row[0], 1
        kept.append(span)
    padded = capture(random_qwen2, ids, attention_mask=mask, chunk=32, queries=32)
    assert padded.cos.shape == (3, longest, 32)
    for index, (row, span) in enumerate(zip(rows, kept)):
        alone = capture(random_qwen2, row)
        for one, many in zip(alone.layers, padded.layers):
            for name in ("keys", "values"):
                torch.testing.assert_close(
                    getattr(many, name)[index, :, span],
                    getattr(one, name)[0],
                    rtol=1e-4,
                    atol=1e-3,
                )
        torch.testing.assert_close(padded.cos[index, span], alone.cos)
        if side == "left":
            torch.testing.assert_close(padded.logits[index], alone.logits[0], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_the_attention_setting_comes_back_even_after_an_error(
    random_qwen2, implementation, monkeypatch
):
    random_qwen2.set_attn_implementation(implementation)
    try:
        capture(random_qwen2, tokens(8))
        assert random_qwen2.config._attn_implementation == implementation

        def fail(*args, **kwargs):
            assert random_qwen2.config._attn_implementation == capture_module.RECORDING
            raise RuntimeError("out of memory")

        monkeypatch.setattr(capture_module, "sdpa_attention_forward", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            capture(random_qwen2, tokens(8))
        assert random_qwen2.config._attn_implementation == implementation
    finally:
        random_qwen2.set_attn_implementation("sdpa")


def test_uses_only_what_mps_has(random_qwen2, monkeypatch):
    table = RopeTable.from_config(random_qwen2.config)
    table.cos_sin(0, POSITIONS)  # built in float64, on the CPU wherever the model is
    monkeypatch.setattr(RopeTable, "from_config", lambda config: table)
    ids = tokens(700)
    with MpsMode() as mode:
        capture(random_qwen2, ids)
    assert any("attention" in name for name in mode.seen)


def test_no_matrix_of_tokens_by_tokens_and_no_spare_storage(random_qwen2):
    captured = capture(random_qwen2, tokens(1100))
    for layer in captured.layers:
        for states in (layer.queries, layer.keys, layer.values):
            assert states.untyped_storage().nbytes() == states.nbytes
    states = 3 * (2 * 2 * 1100 + 4 * 256) * 32 * 4
    assert captured.nbytes == states


def test_progress_ends_at_one(random_qwen2):
    seen = []
    capture(random_qwen2, tokens(1100), progress=lambda fraction, text: seen.append(fraction))
    assert seen == [76 / 1100, 588 / 1100, 1.0]


def test_names_the_layer_that_broke(random_qwen2):
    bias = random_qwen2.model.layers[1].self_attn.v_proj.bias
    before = bias.data.clone()
    bias.data[3] = float("nan")
    try:
        with pytest.raises(ValueError, match=r"layer 1: the values hold NaN or infinity"):
            capture(random_qwen2, tokens(8))
    finally:
        bias.data = before


def test_refuses_layers_that_would_forget(random_qwen2):
    config = random_qwen2.config
    kinds, window = config.layer_types, config.sliding_window
    try:
        config.layer_types, config.sliding_window = ["full_attention", "sliding_attention"], 16
        with pytest.raises(ValueError, match="layer 1 attends to the last 16 tokens only"):
            capture(random_qwen2, tokens(17))
        config.layer_types = ["full_attention", "linear_attention"]
        with pytest.raises(ValueError, match="layer 1 is 'linear_attention'"):
            capture(random_qwen2, tokens(8))
    finally:
        config.layer_types, config.sliding_window = kinds, window


def test_refuses_a_chunk_shorter_than_the_queries(random_qwen2):
    with pytest.raises(ValueError, match="chunk is 8"):
        capture(random_qwen2, tokens(8), chunk=8)


SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "attention_bias": True,
}


@pytest.mark.parametrize(
    ("family", "config", "has_key_bias"),
    [
        (LlamaForCausalLM, LlamaConfig(**SHAPE), True),
        (Qwen3ForCausalLM, Qwen3Config(**SHAPE), False),
    ],
    ids=["llama", "qwen3: keys normed after the bias"],
)
def test_reads_other_families(family, config, has_key_bias):
    model = family(config).eval()
    captured = capture(model, tokens(40), chunk=16, queries=16)
    with torch.inference_mode():
        expected = model(tokens(40)).logits[:, -1]
    torch.testing.assert_close(captured.logits, expected, rtol=1e-4, atol=1e-4)
    for layer in captured.layers:
        assert (layer.key_bias is not None) == has_key_bias
        assert layer.value_bias is not None
