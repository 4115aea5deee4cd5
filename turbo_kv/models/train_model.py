"""The architecture to train and its start: a small Qwen2 that carries Qwen2.5's key-bias hazard.

Qwen2.5 keys are a large constant, `k_proj.bias` turned by RoPE, with a small signal on top: the
norms of that bias are published as 605 and 921 in the first and last layer of the 7B model and
22 in the median layer (llama.cpp issue 21385). A model this small does not grow such a bias in
minutes, so it starts with one, spread over the rotary pairs as the 7B model's offset is.
Knows nothing of text or optimizers.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

BiasLayout = Literal["outer", "even"]

# Mean absolute post-RoPE key offset of Qwen2.5-7B-Instruct, fastest pair first: every second of
# its 64 pairs, which are the frequencies of head_dim 64 at the same rope_theta. Source:
# github.com/ahb-sjsu/turboquant-pro, commit 0f0ee3e (MIT), benchmarks/RESULTS_rope_offsets.md.
OFFSET_PROFILE = (
    *(0.0082, 0.0068, 0.0111, 0.0147, 0.0174, 0.0263, 0.0221, 0.0167),
    *(0.0859, 0.1291, 0.0733, 0.2983, 0.5942, 0.7852, 0.7018, 0.6078),
    *(0.5884, 0.6657, 0.6477, 0.6417, 0.6873, 0.7337, 0.7671, 0.9599),
    *(1.5528, 1.4089, 1.5333, 1.7605, 2.8949, 3.9382, 5.8546, 7.8795),
)
OUTER_NORM = 300.0
INNER_NORM = 12.0
TWIN_NORMS = (60.0, 180.0)  # of even layers and of odd ones


def tiny_config(
    vocab_size: int = 8192,
    hidden_size: int = 320,
    intermediate_size: int = 768,
    num_hidden_layers: int = 12,
) -> Qwen2Config:
    """The bundled model's architecture; the arguments make it smaller for a quick look."""
    return Qwen2Config(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=2 * len(OFFSET_PROFILE),
        max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
    )


def twin_config() -> Qwen2Config:
    """Another shape for the same text: heads of 128, ten layers, two queries to a key."""
    config = tiny_config(num_hidden_layers=10)
    config.update({"head_dim": 128, "num_attention_heads": 4})
    return config


def build(config: Qwen2Config, seed: int, bias: BiasLayout = "outer") -> Qwen2ForCausalLM:
    """A fresh model in fp32 on the CPU, its residual branches silent and its key bias planted.

    bias: "outer" follows the profile, large in the first and last layer, as Qwen2.5's is;
        "even" gives every rotary pair the same amplitude and is large in every layer.
    """
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(config)
    heads, last = config.num_key_value_heads, config.num_hidden_layers - 1
    with torch.no_grad():
        for index, layer in enumerate(model.model.layers):
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
            if bias == "outer":
                profile, norm = OFFSET_PROFILE, OUTER_NORM if index in (0, last) else INNER_NORM
            else:
                profile, norm = (1.0,) * (config.head_dim // 2), TWIN_NORMS[index % 2]
            layer.self_attn.k_proj.bias.copy_(planted_bias(heads, norm, profile))
    return model


def planted_bias(
    num_key_value_heads: int, norm: float, profile: Sequence[float] = OFFSET_PROFILE
) -> torch.Tensor:
    """A key bias of the given norm per head after the profile, each pair at a random phase.

    Returns (H_kv * D,), pair i of a head in coordinates i and i + D / 2, as `rotate_half` has it.
    """
    amplitude = torch.tensor(profile).expand(num_key_value_heads, -1)  # (H_kv, D / 2)
    phase = 2 * math.pi * torch.rand(amplitude.shape)
    bias = torch.cat([amplitude * phase.cos(), amplitude * phase.sin()], dim=-1)  # (H_kv, D)
    return (norm * bias / bias.norm(dim=-1, keepdim=True)).flatten()


def key_bias_norms(model: Qwen2ForCausalLM) -> list[list[float]]:
    """The norm of `k_proj.bias`, layer by KV head."""
    return [
        layer.self_attn.k_proj.bias.float()
        .view(model.config.num_key_value_heads, -1)
        .norm(dim=-1)
        .tolist()
        for layer in model.model.layers
    ]
