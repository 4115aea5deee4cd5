"""Attention on packed states, written the plain way: the specification of every faster path.

Restores all keys and values, then exact softmax attention in fp32. Does not know how to be quick.
"""

import torch

from turbo_kv.kernels.states import PackedStates


def attention(
    query_states: torch.Tensor,
    states: PackedStates,
    attention_mask: torch.Tensor | None = None,
    scaling: float | None = None,
) -> torch.Tensor:
    """Attention of the newest T slots' queries over all S slots, fp32 (B, H_q, T, D).

    query_states: (B, H_q, T, D), rotated by RoPE, H_q a multiple of H_kv.
    attention_mask: (B, 1, T, S); boolean, True to attend, or floats to add. None: causal.
    scaling: of the scores; 1 / √D by default.
    """
    keys, values = states.restore()
    groups = query_states.shape[1] // keys.shape[1]
    keys = keys.repeat_interleave(groups, dim=1)  # (B, H_q, S, D)
    values = values.repeat_interleave(groups, dim=1)
    scaling = query_states.shape[-1] ** -0.5 if scaling is None else scaling
    scores = query_states.float() @ keys.transpose(2, 3) * scaling  # (B, H_q, T, S)
    return mask_scores(scores, attention_mask).softmax(dim=-1) @ values


def mask_scores(scores: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    """Scores (..., T, S) with what may not be attended pushed to the lowest finite number.

    Minus infinity would turn a row without any visible slot into NaN.
    """
    length, slots = scores.shape[-2:]
    if attention_mask is None:
        if length == 1:
            return scores
        attention_mask = torch.ones(length, slots, dtype=torch.bool, device=scores.device)
        attention_mask = attention_mask.tril(slots - length)
    if attention_mask.dtype != torch.bool:
        return scores + attention_mask
    return scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
