"""Attention on packed states, a page of slots at a time: never more than one page is expanded.

The rotation H of a head is orthonormal, so with stored key j = R(j) μ_k + s_j Hᵀ c_j

    q · k_j = q · R(j) μ_k + s_j (H q) · c_j        Σ p_j v_j = (Σ p_j) μ_v + Hᵀ Σ p_j s_j c_j

the query is rotated once, the output is un-rotated once, and no key ever is. The G queries that
share a KV head (times T) are the R rows of one matrix. `dot` and `mix` read a page with operations
that every device has; a faster pair may take their place.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from turbo_kv.kernels.reference import mask_scores
from turbo_kv.kernels.states import PackedStates
from turbo_kv.quant.centering import remove_rope
from turbo_kv.quant.packing import PackedVectors
from turbo_kv.quant.quantizer import TurboQuantizer

PAGE_VECTORS = 8192
STRIDE = 64

Read = Callable[[Tensor, TurboQuantizer, PackedVectors], Tensor]


def dot(queries: Tensor, quantizer: TurboQuantizer, packed: PackedVectors) -> Tensor:
    """Rotated queries (B, H, R, D) times the packed vectors of a page: (B, H, R, T)."""
    return queries @ quantizer.dequantize_rotated(packed).mT


def mix(weights: Tensor, quantizer: TurboQuantizer, packed: PackedVectors) -> Tensor:
    """The packed vectors of a page weighted by (B, H, R, T), still rotated: (B, H, R, D)."""
    return weights @ quantizer.dequantize_rotated(packed)


def attention(
    query_states: Tensor,
    states: PackedStates,
    attention_mask: Tensor | None = None,
    scaling: float | None = None,
    *,
    read: tuple[Read, Read] = (dot, mix),
    page_vectors: int = PAGE_VECTORS,
) -> Tensor:
    """As `reference.attention`.

    read: what to use for `dot` and `mix`.
    page_vectors: how many vectors, over batch and heads, a page holds.
    """
    batch, query_heads, length, head_dim = query_states.shape
    kv_heads = states.exact_keys.shape[1]
    scaling = head_dim**-0.5 if scaling is None else scaling
    queries = query_states.reshape(batch, kv_heads, -1, head_dim).float() * scaling
    page = max(1, page_vectors // (batch * kv_heads))

    scores = _packed_scores(queries, states, read[0], page)  # (B, H_kv, G * T, S)
    if states.exact_keys.shape[2]:
        exact = queries @ states.exact_keys.float().mT
        scores = torch.cat((scores, exact), dim=-1)
    by_query = scores.view(batch, query_heads, length, -1)
    weights = mask_scores(by_query, attention_mask).softmax(dim=-1).view(scores.shape)
    return _output(weights, states, read[1], page).view(query_states.shape)


def _packed_scores(queries: Tensor, states: PackedStates, dot: Read, page: int) -> Tensor:
    """Scores of the packed slots, (B, H_kv, R, T)."""
    scores = _mean_scores(queries, states)
    rotated = states.key_quantizer.rotate(queries)
    for slots in _pages(states.keys, page):
        part = states.keys.slice(slots.start, slots.stop)
        scores[..., slots] += dot(rotated, states.key_quantizer, part)
    return scores


def _mean_scores(queries: Tensor, states: PackedStates) -> Tensor:
    """q · R(j) μ for every packed slot j: (B, H_kv, R, T).

    With j = 64 i + n it is (R(-64 i) q) · (R(n) μ): T / 64 turned queries against 64 turned means.
    """
    slots = states.keys.seq_len
    if states.center is None:
        return queries.new_zeros(*queries.shape[:3], slots)
    far = states.cos[::STRIDE], states.sin[::STRIDE]
    near = states.cos[:STRIDE], states.sin[:STRIDE]
    turned = remove_rope(queries.unsqueeze(3), *far)  # (B, H_kv, R, T / 64, D)
    means = states.center.key_offset(*near)  # (B, H_kv, 64, D)
    scores = turned.flatten(2, 3) @ means.mT
    return scores.view(*queries.shape[:3], len(far[0]) * len(near[0]))[..., :slots]


def _output(weights: Tensor, states: PackedStates, mix: Read, page: int) -> Tensor:
    """Weighted sum of all values, (B, H_kv, R, D)."""
    past = states.values.seq_len
    packed, exact = weights.split((past, weights.shape[-1] - past), dim=-1)
    rotated = weights.new_zeros(*weights.shape[:-1], states.exact_values.shape[-1])
    for slots in _pages(states.values, page):
        part = states.values.slice(slots.start, slots.stop)
        rotated += mix(packed[..., slots], states.value_quantizer, part)
    output = states.value_quantizer.unrotate(rotated)
    if states.center is not None:
        output += packed.sum(dim=-1, keepdim=True) * states.center.value_offset()
    if exact.shape[-1]:
        output += exact @ states.exact_values.float()
    return output


def _pages(packed: PackedVectors, page: int) -> Iterator[slice]:
    for start in range(0, packed.seq_len, page):
        yield slice(start, min(start + page, packed.seq_len))
