"""The attention named "turbo_kv": packed states where a layer hands them over, else plain SDPA.

Registered on import, as attention and as mask: a name without its mask would get none at all, and
left-padded batches would go wrong silently. Does not know how packed states are attended.
"""

from typing import TYPE_CHECKING

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from turbo_kv.kernels import cpu, pagewise
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
    reader = cpu if query.device.type == "cpu" else pagewise
    output = pagewise.attention(query, key, attention_mask, scaling, read=(reader.dot, reader.mix))
    return output.to(query.dtype).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, attention_forward)
AttentionMaskInterface.register(NAME, sdpa_mask)
