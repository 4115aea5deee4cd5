"""A random model shared by the tests; those about quality use the trained one of the package."""

import os
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read where Triton is imported first: before transformers

from byte_tokenizer import byte_tokenizer
from hypothesis import settings
from transformers import Qwen2Config, Qwen2ForCausalLM

settings.register_profile("turbo_kv", deadline=None)  # no timing decides a test
settings.load_profile("turbo_kv")

HEAD_DIM = 32
BIAS_NORM = 60.0


@pytest.fixture(scope="session")
def random_qwen2() -> Qwen2ForCausalLM:
    """Three layers, four query heads on two KV heads, key biases as large as Qwen2.5's hazard."""
    config = Qwen2Config(
        vocab_size=256,
        hidden_size=128,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=HEAD_DIM,
        max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        initializer_range=0.1,
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(config).eval()
        for layer in model.model.layers:
            bias = torch.zeros(2, 2, HEAD_DIM // 2)  # KV head, half of the RoPE pair, pair
            bias[..., HEAD_DIM // 4 :] = torch.randn(2, 2, HEAD_DIM // 4)  # the slow pairs
            bias *= BIAS_NORM / bias.norm(dim=(1, 2), keepdim=True)
            layer.self_attn.k_proj.bias.data = bias.flatten()
            layer.self_attn.v_proj.bias.data.normal_(std=0.3)
    return model


@pytest.fixture(scope="session")
def random_checkpoint(random_qwen2, tmp_path_factory) -> Path:
    """The random model as a folder, with a tokenizer whose tokens are bytes."""
    folder = tmp_path_factory.mktemp("checkpoints") / "random-qwen2"
    random_qwen2.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder
