"""A model of exact shapes and random weights, one decoder layer at a time: memory and time only.

Only one layer's weights exist at any moment, so 7B runs where its 15 GB of weights would not fit.
Each layer reads embedded random tokens rather than the layer before it: its keys and values have
the right shapes and take the right time, and mean nothing. Knows nothing of quality.
"""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen2Config

from turbo_kv.bench.process import peak_bytes
from turbo_kv.bench.storing import Storing, now
from turbo_kv.cache.capture import capture
from turbo_kv.models.catalog import ModelCard
from turbo_kv.models.device import choose_device, choose_dtype
from turbo_kv.models.progress import Progress, silent
from turbo_kv.quant.config import QuantConfig

PREFIX = "shape:"
WORDS = 256  # of a vocabulary that stands for the real one
SCALE = 0.02

# Published in each config.json; a test counts the parameters that follow from them.
MLP_WIDTHS = {
    "0.5B": 4_864,
    "1.5B": 8_960,
    "3B": 11_008,
    "7B": 18_944,
    "14B": 13_824,
    "32B": 27_648,
    "72B": 29_568,
}
TIED = ("0.5B", "1.5B", "3B")


def shape_config(card: ModelCard, **changes: Any) -> Qwen2Config:
    """The configuration of a Qwen2.5 of the catalog, with some of its numbers changed.

    Raises ValueError for a card that is not one.
    """
    size = card.name.split("-")[1] if card.repo_id else ""
    if size not in MLP_WIDTHS:
        raise ValueError(f"{PREFIX}{card.name} has no known shape; choose a Qwen2.5 size")
    shape = {
        "vocab_size": card.vocab_size,
        "hidden_size": card.hidden_size,
        "intermediate_size": MLP_WIDTHS[size],
        "num_hidden_layers": card.layers,
        "num_attention_heads": card.query_heads,
        "num_key_value_heads": card.kv_heads,
        "max_position_embeddings": card.max_position_embeddings,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        "tie_word_embeddings": size in TIED,
        "attn_implementation": "sdpa",
    }
    return Qwen2Config(**shape | changes)


@torch.inference_mode()
def measure_shape(
    card: ModelCard,
    context: int,
    device: str,
    quant: QuantConfig,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Bytes and seconds of reading and storing `context` random tokens; parts of a family row.

    Raises ValueError for more tokens than the model has positions for, and for a layer that does
    not fit.
    """
    if context > card.max_position_embeddings:
        raise ValueError(f"{card.name} reads at most {card.max_position_embeddings:,} tokens")
    target = choose_device(device)
    config = shape_config(card)
    single = shape_config(card, num_hidden_layers=1, vocab_size=WORDS, tie_word_embeddings=True)
    with torch.device("meta"):
        parameters = AutoModelForCausalLM.from_config(single).num_parameters()
    dtype, _ = choose_dtype(target, parameters)
    model = AutoModelForCausalLM.from_config(single, dtype=dtype).to(target).eval()
    random = torch.Generator(target).manual_seed(0)
    tokens = torch.randint(WORDS, (1, context), generator=random, device=target)
    storing = Storing(config, quant)
    _draw(model, random)
    first = capture(model, tokens[:, :WORDS]).layers[0]
    storing.warm_up(first.keys, first.values)
    seconds = 0.0
    for index in range(card.layers):
        progress(index / card.layers, f"Layer {index} of {card.layers}, random weights")
        _draw(model, random)
        began = now(target)
        states = capture(model, tokens).layers[0]
        seconds += now(target) - began
        storing.layer(index, states.keys, states.values)
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "memory": storing.memory(),
        "seconds": {"capture": seconds, "quantize": storing.seconds},
        "peak_bytes": peak_bytes(device),
    }


def _draw(model: PreTrainedModel, random: torch.Generator) -> None:
    """Draw every matrix anew; norms and biases stay."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.normal_(std=SCALE, generator=random)
