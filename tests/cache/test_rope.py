"""The table equals the model's own rotation to fp32 rounding, and refuses what no test covers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, Qwen2Config
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding

from turbo_kv.cache.rope import RopeTable, head_dim

LENGTH = 8192
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 1024,
}


def qwen2(**changes) -> Qwen2Config:
    rope = {"rope_type": "default", "rope_theta": 1e6}
    shape = {"hidden_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2}
    return Qwen2Config(**shape | {"rope_parameters": rope} | changes)


@pytest.mark.parametrize(
    ("config", "rotary"),
    [
        (qwen2(), Qwen2RotaryEmbedding),
        (qwen2(head_dim=128), Qwen2RotaryEmbedding),
        (
            LlamaConfig(rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}),
            LlamaRotaryEmbedding,
        ),
        (LlamaConfig(rope_parameters=LLAMA3, max_position_embeddings=8192), LlamaRotaryEmbedding),
    ],
    ids=["default", "head_dim", "linear", "llama3"],
)
def test_equals_the_models_own_table_to_fp32_rounding(config, rotary):
    cos, sin = RopeTable.from_config(config).cos_sin(0, LENGTH)
    positions = torch.arange(LENGTH)
    own_cos, own_sin = rotary(config)(torch.zeros(1), positions[None])
    # The model rounds position * frequency to fp32: half a unit in the last place of the angle.
    allowed = (positions * 2.0**-24 + 2.0**-22)[:, None]
    assert ((cos - own_cos[0]).abs() <= allowed).all()
    assert ((sin - own_sin[0]).abs() <= allowed).all()


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), min_size=1, max_size=6))
def test_a_table_grown_piece_by_piece_is_the_table(pieces):
    grown = RopeTable.from_config(qwen2())
    whole = RopeTable.from_config(qwen2()).cos_sin(0, 600)
    for start, length in pieces:
        for part, table in zip(grown.cos_sin(start, start + length), whole):
            assert torch.equal(part, table[start : start + length])


def test_rows_are_rotations_of_position():
    cos, sin = RopeTable.from_config(qwen2()).cos_sin(0, 64)
    assert cos.dtype == sin.dtype == torch.float32
    assert cos.shape == sin.shape == (64, 64)
    assert torch.equal(cos[0], torch.ones(64))
    torch.testing.assert_close(cos**2 + sin**2, torch.ones(64, 64))


def test_head_dim_falls_back_to_the_hidden_size():
    config = qwen2()
    assert not hasattr(config, "head_dim")
    assert head_dim(config) == 64
    assert head_dim(qwen2(head_dim=80)) == 80


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            qwen2(
                max_position_embeddings=4096,
                rope_parameters={"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0},
            ),
            "rope type is 'yarn'",
        ),
        (
            qwen2(
                rope_parameters={
                    "rope_type": "default",
                    "rope_theta": 1e6,
                    "partial_rotary_factor": 0.5,
                }
            ),
            "only 50% of each head",
        ),
    ],
)
def test_refuses_what_no_test_covers(config, message):
    with pytest.raises(ValueError, match=message):
        RopeTable.from_config(config)


def test_refuses_a_model_without_rope():
    from transformers import GPT2Config

    with pytest.raises(ValueError, match="gpt2: rope type is None"):
        RopeTable.from_config(GPT2Config())
