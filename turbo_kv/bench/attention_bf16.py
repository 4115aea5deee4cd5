"""Split-K decode attention on bf16 keys and values in Triton: the packed kernel's fair opponent.

The skeleton of the packed kernel in Triton: programs own runs of tokens, the queries of a KV head
share its keys, the same second launch weighs the runs together, and both start early. Knows nothing
of codes.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from turbo_kv.kernels.decode_kernel import decode_combine
from turbo_kv.kernels.decode_triton import combined

LOG2_E = 1.4426950408889634
QUERIES = 8


def attention(
    query_states: Tensor, keys: Tensor, values: Tensor, splits: int, block: int
) -> Tensor:
    """Attention of one token: query_states (B, H_q, 1, D), keys and values (B, H_kv, T, D), bf16.

    splits: programs per KV head. block: tokens a program reads at a time, a power of two.
    """
    batch, query_heads, _, head_dim = query_states.shape
    kv_heads, tokens = keys.shape[1:3]
    heads, groups = batch * kv_heads, query_heads // kv_heads
    parts = query_states.new_empty(heads, QUERIES, splits, head_dim, dtype=torch.float32)
    sums = query_states.new_empty(heads, QUERIES, splits, 2, dtype=torch.float32)
    out = torch.empty_like(query_states)
    run = triton.cdiv(triton.cdiv(tokens, splits), block) * block
    _split[heads, splits](
        *(query_states, keys, values, parts, sums, head_dim**-0.5 * LOG2_E, tokens, run),
        G=groups,
        D=head_dim,
        BLOCK=block,
        num_warps=4,
        num_stages=3,
        launch_pdl=True,
    )
    decode_combine[(batch * query_heads,)](
        *(parts, sums, None, None, out, splits, groups),
        *(query_states, None, None, None, None, 1.0, 0, kv_heads),
        D=head_dim,
        **combined(splits),
        PDL=True,
        launch_pdl=True,
    )
    return out


@triton.jit
def _split(
    query_states, keys, values, parts, sums, scaling, tokens, run,
    G: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    tl.extra.cuda.gdc_wait()
    tl.extra.cuda.gdc_launch_dependents()
    head = tl.program_id(0).to(tl.int64)
    split = tl.program_id(1)
    column = tl.arange(0, 16)
    channel = tl.arange(0, D)
    rows = query_states + (head * G + column)[:, None] * D + channel[None, :]
    query = tl.load(rows, (column < G)[:, None], 0.0)
    begin = split * run
    end = tl.minimum(begin + run, tokens)
    token = tl.arange(0, BLOCK)
    offset = token[:, None] * D + channel[None, :]
    keys += head * tokens * D
    values += head * tokens * D
    output = tl.zeros((16, D), tl.float32)
    maximum = tl.full((16,), -1e30, tl.float32)
    total = tl.zeros((16,), tl.float32)
    for start in range(begin, end, BLOCK):
        there = start + token < end
        key = tl.load(keys + start * D + offset, there[:, None], 0.0)
        score = tl.dot(query, tl.trans(key)) * scaling
        score = tl.where(there[None, :], score, -1e30)
        highest = tl.maximum(maximum, tl.max(score, 1))
        fade = tl.exp2(maximum - highest)
        weight = tl.exp2(score - highest[:, None])
        total = total * fade + tl.sum(weight, 1)
        value = tl.load(values + start * D + offset, there[:, None], 0.0)
        output = tl.dot(weight.to(tl.bfloat16), value, output * fade[:, None])
        maximum = highest
    some = total > 0
    total = tl.where(some, total, 1.0)
    place = (head * 8 + column) * tl.num_programs(1) + split
    kept = column < 8
    tl.store(parts + place[:, None] * D + channel[None, :], output / total[:, None], kept[:, None])
    tl.store(sums + 2 * place, tl.where(some, maximum + tl.log2(total), -1e30), kept)
    tl.store(sums + 2 * place + 1, tl.full((16,), 1.0, tl.float32), kept)  # of what parts are over
