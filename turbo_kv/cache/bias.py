"""The biases of a model's key and value projections, as what centering "bias" subtracts.

A key's bias is rotated to its token's position p, and a layer knows slots alone. Under left padding
p = slot - padding, and R(slot - padding) b = R(slot) R(-padding) b: a row's padding is turned into
the bias once, here.
"""

import torch
from transformers import PreTrainedModel

from turbo_kv.cache.rope import RopeTable
from turbo_kv.quant.centering import Center, remove_rope


def projection_biases(
    model: PreTrainedModel, attention_mask: torch.Tensor | None = None
) -> list[Center]:
    """Per layer, the biases as a centre of one row, or of a row for each of the mask (B, T).

    Raises ValueError if a layer has no key bias, or norms its keys after adding it.
    """
    rope = RopeTable.from_config(model.config.get_text_config(decoder=True))
    attentions = [
        module
        for module in model.modules()
        if hasattr(module, "k_proj") and hasattr(module, "layer_idx")
    ]
    return [_center(attention, rope, attention_mask) for attention in attentions]


def bias_of(projection: torch.nn.Module) -> torch.Tensor | None:
    """A projection's bias, as `parameter_of` finds it."""
    return parameter_of(projection, "bias")


def parameter_of(module: torch.nn.Module, name: str) -> torch.Tensor | None:
    """A parameter wherever it lies: offloaded from its device, or this process's shard."""
    parameter = getattr(module, name, None)
    if parameter is None:
        return None
    if parameter.is_meta:
        from accelerate.utils import align_module_device

        with align_module_device(module):
            return getattr(module, name).detach().clone()
    parameter = parameter.detach()
    return parameter.to_local() if hasattr(parameter, "to_local") else parameter


@torch.no_grad()
def _center(
    attention: torch.nn.Module, rope: RopeTable, attention_mask: torch.Tensor | None
) -> Center:
    key_bias = bias_of(attention.k_proj)
    if key_bias is None or hasattr(attention, "k_norm"):
        raise ValueError(
            f"layer {attention.layer_idx} adds no bias to its keys; use centering 'mean' or 'off'"
        )
    value_bias = bias_of(attention.v_proj)
    value_bias = torch.zeros_like(key_bias) if value_bias is None else value_bias
    per_head = (bias.float().view(-1, attention.head_dim) for bias in (key_bias, value_bias))
    if attention_mask is None:
        return Center.from_bias(*per_head, batch=1)
    center = Center.from_bias(*per_head, batch=len(attention_mask))
    padding = attention_mask.argmax(dim=-1).to(key_bias.device)  # the first 1 of each row
    cos, sin = rope.cos_sin(0, attention_mask.shape[1], key_bias.device)
    keys = center.key_mean[:, :, None]  # (B, H_kv, 1, D)
    keys = remove_rope(keys, cos[padding, None], sin[padding, None])
    return Center(keys[:, :, 0], center.value_mean)
