"""How far restored keys and values are from exact ones, and what attention makes of it.

Full vectors per KV head, attention per query head, each an average over tokens. Knows nothing of
how the restored states came about. Attention runs over the last Q positions, causally, in blocks
of query rows, so that memory does not grow with Q times T.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import cosine_similarity

BLOCK = 2**20
"""Logits held at once, per temporary: 4 MiB in fp32."""

SMALLEST = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class AttentionFidelity:
    """Per query head, (H_q,) fp32; the definitions are LayerReport's."""

    kl: torch.Tensor
    logit_correlation: torch.Tensor
    top1: torch.Tensor
    output_relative_error: torch.Tensor


def cosine(exact: torch.Tensor, restored: torch.Tensor) -> torch.Tensor:
    """Mean cosine of exact and restored vectors (B, H, T, D), per head: (H,)."""
    return cosine_similarity(exact, restored, dim=-1).mean(dim=(0, 2))


def relative_mse(exact: torch.Tensor, restored: torch.Tensor) -> torch.Tensor:
    """Σ‖x - x̂‖² / Σ‖x‖² over vectors (B, H, T, D), per head: (H,)."""
    error, energy = ((x.square()).sum(dim=(0, 2, 3)) for x in (exact - restored, exact))
    return error / energy.clamp(min=SMALLEST)


def attention_fidelity(
    queries: torch.Tensor,
    keys: tuple[torch.Tensor, torch.Tensor],
    values: tuple[torch.Tensor, torch.Tensor],
    scaling: float,
    block: int = BLOCK,
) -> AttentionFidelity:
    """Compare attention on exact and restored states, for the last Q of T positions.

    queries (B, H_q, Q, D); keys and values are pairs (exact, restored) of fp32 (B, H_kv, T, D).
    `block` bounds the logits held at once, in elements.
    """
    batch, query_heads, rows, _ = queries.shape
    kv_heads, length = keys[0].shape[1:3]
    groups = query_heads // kv_heads
    queries = (queries.float() * scaling).reshape(batch * kv_heads, groups, rows, -1)
    exact_keys, restored_keys, exact_values, restored_values = (
        states.flatten(0, 1) for states in (*keys, *values)
    )
    # The error of a logit is its query times the error of its key: no cancellation of big logits.
    key_errors = restored_keys - exact_keys

    height = max(1, block // (batch * query_heads * length))
    parts = []
    for start in range(0, rows, height):
        stop = min(start + height, rows)
        seen = length - rows + stop  # keys visible to the block's last row
        part = _compare_rows(
            queries[:, :, start:stop],
            (exact_keys[:, :seen], key_errors[:, :seen]),
            (exact_values[:, :seen], restored_values[:, :seen]),
        )
        parts.append(part)  # (4, B * H_kv, G, rows of the block)
    figures = torch.cat(parts, dim=-1).reshape(4, batch, query_heads, rows).mean(dim=(1, 3))
    return AttentionFidelity(*figures.cpu())


def _compare_rows(
    queries: torch.Tensor,
    keys: tuple[torch.Tensor, torch.Tensor],
    values: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """KL, logit correlation, top-1 and relative output error of each row: (4, H, G, R).

    queries (H, G, R, D) are the last R positions of keys (H, N, D): exact, and errors; values
    are exact and restored.
    """
    heads, groups, rows, _ = queries.shape
    flat = queries.flatten(1, 2)  # (H, G * R, D)
    logits, errors = (flat @ states.mT for states in keys)  # (H, G * R, N)
    future = torch.ones(rows, rows, dtype=torch.bool, device=flat.device).triu(1)
    visible = keys[0].shape[1] - torch.arange(rows - 1, -1, -1, device=flat.device)
    visible = visible.repeat(groups)[:, None]  # (G * R, 1)

    def hide(scores: torch.Tensor, fill: float) -> None:
        """Overwrite, in place, the columns that lie in each row's future."""
        scores.unflatten(1, (groups, rows))[..., -rows:].masked_fill_(future, fill)

    # Softmax does not see a row's mean; the correlation must not either.
    for scores in (logits, errors):
        hide(scores, 0.0)
        scores.sub_(scores.sum(dim=-1, keepdim=True) / visible)
        hide(scores, 0.0)
    spread, error_spread = (_norm(scores) for scores in (logits, errors))
    packed = logits + errors
    packed_spread = _norm(packed)
    correlation = _correlation(spread, packed_spread, error_spread)

    hide(logits, torch.finfo(logits.dtype).min)
    hide(packed, torch.finfo(packed.dtype).min)
    strongest, winner = logits.max(dim=-1, keepdim=True)
    packed_strongest = packed.amax(dim=-1, keepdim=True)
    top1 = (packed.gather(-1, winner) == packed_strongest).float()

    weights = logits.sub_(strongest).exp_()
    packed_weights = packed.sub_(packed_strongest).exp_()
    total = weights.sum(dim=-1, keepdim=True)
    packed_total = packed_weights.sum(dim=-1, keepdim=True)
    # KL = log Ẑ - log Z - E[error], the expectation under the exact weights.
    log_ratio = (packed_total.log() + packed_strongest) - (total.log() + strongest)
    mean_error = errors.mul_(weights).sum(dim=-1, keepdim=True) / total
    kl = (log_ratio - mean_error).clamp(min=0)  # below zero there is only rounding

    output = (weights @ values[0]) / total
    packed_output = (packed_weights @ values[1]) / packed_total
    output_error = _relative_error(output, packed_output)[..., None]
    figures = torch.stack((kl, correlation, top1, output_error)).squeeze(-1)
    return figures.reshape(4, heads, groups, rows)


def _norm(scores: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(scores, dim=-1, keepdim=True)


def _correlation(a: torch.Tensor, b: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
    """Correlation of mean-free rows from their norms and their difference's; 1 if both are flat."""
    both = a * b
    cosine = (a.square() + b.square() - error.square()) / (2 * both)
    return torch.where(both > 0, cosine, (a == b).float())


def _relative_error(exact: torch.Tensor, restored: torch.Tensor) -> torch.Tensor:
    """‖x - x̂‖ / ‖x‖ over the last dimension."""
    return (exact - restored).norm(dim=-1) / exact.norm(dim=-1).clamp(min=SMALLEST)
