"""The attention named "turbo_kv": packed states where a layer hands them over, else plain SDPA.

Registered on import, as attention and as mask: a name without its mask would get none at all, and
left-padded batches would go wrong silently. Does not know how packed states are attended.
"""

from typing import TYPE_CHECKING

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from turbo_kv.kernels import choose, cpu, native_attention, pagewise
from turbo_kv.kernels.states import PackedStates

if TYPE_CHECKING:  # needs Triton
    from turbo_kv.kernels.paged import PagedStates

NAME = "turbo_kv"


def attention_forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: "torch.Tensor | PackedStates | PagedStates",
    value: "torch.Tensor | PackedStates | PagedStates",
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """Attention output (B, T, H_q, D) in the queries' dtype, and no weights.

    query: (B, H_q, T, D). key, value: tensors (B, H_kv, S, D), or one layer's packed states twice.
    attention_mask: boolean (B, 1, T, S), True to attend; None: causal.
    """
    if isinstance(key, torch.Tensor):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    if not isinstance(key, PackedStates):
        output = key.attention(query, attention_mask, scaling)
        return output.to(query.dtype).transpose(1, 2).contiguous(), None
    output = _attend(query, key, attention_mask, scaling)
    return output.to(query.dtype).transpose(1, 2).contiguous(), None


def _attend(
    query: torch.Tensor, states: PackedStates, mask: torch.Tensor | None, scaling: float | None
) -> torch.Tensor:
    """Attention on dense codes: in C or by gathers on a CPU, else by what every device has."""
    if query.device.type != "cpu":
        return pagewise.attention(query, states, mask, scaling)
    quantizers = states.key_quantizer, states.value_quantizer
    groups = query.shape[1] // states.exact_keys.shape[1]
    if choose.why_not_c(quantizers, groups) is None:
        return native_attention.attention(query, states, mask, scaling)
    return pagewise.attention(query, states, mask, scaling, read=(cpu.dot, cpu.mix))


AttentionInterface.register(NAME, attention_forward)
AttentionMaskInterface.register(NAME, sdpa_mask)
