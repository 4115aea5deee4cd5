"""Which directions of a key a model's queries look along, from its weights alone.

E[q qᵀ] after RoPE, for hidden states that are equal and uncorrelated after the norm: rows of W_q
times the norm's weight, and the bias. Queries and keys turn with their positions, so it is averaged
over SAMPLES of the first POSITIONS, and over the query heads that share a KV head. The prompt's own
queries would serve a little better, but are not there when its first keys are coded. Does not know
what is done with it.
"""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from turbo_kv.cache.bias import parameter_of
from turbo_kv.cache.rope import RopeTable
from turbo_kv.quant.centering import apply_rope

POSITIONS = 2048
SAMPLES = 64
NO_QUERY_METRIC = (
    "codebook 'query-trellis' reads the weights of the query projection, and this layer has none "
    "of its own, keeps them quantized, or norms its queries after it; choose 'trellis'"
)


@torch.no_grad()
def query_metrics(model: PreTrainedModel) -> list[Tensor | None]:
    """Per layer E[q qᵀ], fp32 (H_kv, D, D) and scaled alike; None where q is more than W z + b."""
    rope = RopeTable.from_config(model.config.get_text_config(decoder=True))
    cos_sin = rope.cos_sin(0, POSITIONS, torch.device("cpu"))
    return [_metric(layer, cos_sin) for layer in model.get_decoder().layers]


def turned(second: Tensor, cos_sin: tuple[Tensor, Tensor]) -> Tensor:
    """The mean of R(p) S R(p)ᵀ over SAMPLES of POSITIONS p, of S (H, D, D)."""
    at = torch.arange(0, POSITIONS, POSITIONS // SAMPLES)
    cos, sin = (table[at].unsqueeze(1) for table in cos_sin)  # (P, 1, D)
    once = apply_rope(second.unsqueeze(0), cos, sin)  # rows of S turned: S R(p)ᵀ, (P, H, D, D)
    return apply_rope(once.mT, cos, sin).mean(0)


def _metric(layer: torch.nn.Module, cos_sin: tuple[Tensor, Tensor]) -> Tensor | None:
    attention = layer.self_attn
    projection = getattr(attention, "q_proj", None)
    if projection is None or hasattr(attention, "q_norm"):
        return None
    weight, norm = (parameter_of(each, "weight") for each in (projection, layer.input_layernorm))
    if type(weight) is not Tensor or not weight.is_floating_point():
        return None
    rows = weight.float().unflatten(0, (-1, attention.head_dim)) * norm.float()
    second = rows @ rows.mT  # (H_q, D, D)
    bias = parameter_of(projection, "bias")
    if bias is not None:
        bias = bias.float().view(-1, attention.head_dim)
        second = second + bias.unsqueeze(2) * bias.unsqueeze(1)
    shared = second.unflatten(0, (-1, attention.num_key_value_groups)).sum(1)
    return turned(shared.cpu(), cos_sin)
