"""The attention benchmark on a GPU: packed pages, and every attention on bf16 that is installed.

Each way's calls, one for each layer, are replayed as one CUDA graph (graph.py).
"""

from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import flex_attention

from turbo_kv.bench import attention_bf16
from turbo_kv.bench.attention_packed import FORMATS, PackedCaches, quantizers
from turbo_kv.bench.attention_ways import Shape, Way, checked
from turbo_kv.bench.graph import copy_bandwidth, layers_for, replay
from turbo_kv.kernels.choose import cache_path

SEVEN = (4, 7, 128)  # KV heads, queries of each and head_dim of Qwen2.5-7B
SHAPES = (
    *(Shape(batch, *SEVEN, tokens) for batch in (1, 8, 64) for tokens in (2048, 8192, 32768)),
    *(Shape(batch, *SEVEN, 131072) for batch in (1, 4, 8)),
    Shape(8, 2, 8, 128, 32768),
    Shape(1, 8, 8, 128, 131072),
    Shape(32, 2, 7, 64, 32768),
    Shape(1, 2, 7, 64, 32768),
)
ELSEWHERE = {"FlashAttention 3": "flash_attn_interface", "FlashInfer": "flashinfer"}
BF16_TOLERANCE = 1e-2
MOST_LAYERS = 64
MOST_BYTES = 16 * 2**30  # of one way's caches

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def facts() -> dict[str, Any]:
    """The device, the path on it, and what a copy reaches, in bytes read and written per second."""
    device = torch.device("cuda")
    return {
        "device": torch.cuda.get_device_name(),
        "triton": version("triton"),
        "path": cache_path(device, quantizers(FORMATS[0], SEVEN[2], device), SEVEN[1]),
        "copy_bytes_per_second": copy_bandwidth(),
    }


def ways(shape: Shape) -> Iterator[Way]:
    """Every way on one shape. Raises ArithmeticError for one that is wrong."""
    yield from _packed(shape)
    torch.cuda.empty_cache()
    yield from _bf16(shape)
    torch.cuda.empty_cache()
    for name, module in ELSEWHERE.items():
        if find_spec(module) is None:
            yield Way(name, False, 2 * shape.values, missing="not installed")


def _packed(shape: Shape) -> Iterator[Way]:
    device = torch.device("cuda")
    for name in FORMATS:
        pair = quantizers(name, shape.head_dim, device)
        caches = PackedCaches(shape, pair, _layers(shape.values * 13 // 32), device)
        error = checked(name, caches.error())
        time = replay(caches.calls())
        yield Way(name, True, caches.nbytes, time.median, time.low, time.high, error)


def _bf16(shape: Shape) -> Iterator[Way]:
    size = shape.batch, shape.kv_heads, shape.tokens, shape.head_dim
    new = {"device": "cuda", "dtype": torch.bfloat16}
    layers = [
        (torch.randn(size, **new), torch.randn(size, **new))
        for _ in range(_layers(2 * shape.values))
    ]
    queries = torch.randn(shape.batch, shape.kv_heads * shape.groups, 1, shape.head_dim, **new)
    exact = _matmul(queries[:1].float(), *(side[:1].float() for side in layers[0]))
    for name, attend in _attentions(shape).items():
        try:
            got = attend(queries, *layers[0])[:1].float()
            error = ((got - exact).norm() / exact.norm()).item()
            time = replay([_call(attend, queries, *layer) for layer in layers])
        except RuntimeError as refusal:
            reason = " ".join(str(refusal).split())[:120]
            yield Way(name, False, 2 * shape.values, missing=reason)
            continue
        measured = time.median, time.low, time.high, checked(name, error, BF16_TOLERANCE)
        yield Way(name, False, 2 * shape.values, *measured)


def _call(attend: Attend, *tensors: Tensor) -> Callable[[], Tensor]:
    return lambda: attend(*tensors)


def _layers(nbytes: int) -> int:
    """Layers whose caches of `nbytes` outgrow the L2 cache, and fit."""
    return layers_for(nbytes, max(2, min(MOST_LAYERS, MOST_BYTES // nbytes)))


def _attentions(shape: Shape) -> dict[str, Attend]:
    """Attention of one token per row; the queries of a KV head are rows of one matrix."""
    heads = shape.batch * shape.kv_heads
    processors = torch.cuda.get_device_properties(0).multi_processor_count
    blocks = -(-shape.tokens // 128)
    splits = {max(1, min(blocks, processors * programs // heads)) for programs in (1, 2, 4)}
    return {
        "SDPA, cuDNN": _sdpa(SDPBackend.CUDNN_ATTENTION),
        "SDPA, flash": _sdpa(SDPBackend.FLASH_ATTENTION),
        "flex": _flex,
        "matmul": _matmul,
        **{
            f"Triton, {count} splits, {block} tokens": _triton(count, block)
            for count in sorted(splits)
            for block in (64, 128)
        },
    }


def _grouped(queries: Tensor, keys: Tensor) -> Tensor:
    return queries.view(*keys.shape[:2], -1, keys.shape[-1])


def _sdpa(backend: SDPBackend) -> Attend:
    def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        with sdpa_kernel(backend):
            out = F.scaled_dot_product_attention(_grouped(queries, keys), keys, values)
        return out.view_as(queries)

    return attend


@cache
def _compiled_flex() -> Attend:
    return torch.compile(flex_attention, dynamic=True)  # many shapes, few compilations


def _flex(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return _compiled_flex()(_grouped(queries, keys), keys, values).view_as(queries)


def _matmul(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    scores = _grouped(queries, keys) @ keys.mT * keys.shape[-1] ** -0.5
    return (scores.softmax(-1) @ values).view_as(queries)


def _triton(splits: int, block: int) -> Attend:
    def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return attention_bf16.attention(queries, keys, values, splits, block)

    return attend
