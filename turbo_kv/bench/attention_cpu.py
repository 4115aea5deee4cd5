"""The attention benchmark on a CPU: both packed paths, and attention on bf16 and fp32.

Calls take turns, so that a busy moment hits all alike. Dense pages, since that is what a CPU reads.
"""

from collections.abc import Callable, Iterator
from functools import partial
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from turbo_kv.bench.attention_packed import PackedCaches, quantizers
from turbo_kv.bench.attention_ways import Shape, Way, checked
from turbo_kv.kernels import choose, cpu, native_attention, pagewise, reference

SHAPES = tuple(Shape(1, 4, 7, 128, tokens) for tokens in (2048, 8192, 32768))
TURNS = 11
COMPILED = "turbo_kv, 3 bits, compiled C"
BF16_TOLERANCE = 1e-2


def facts() -> dict[str, Any]:
    """The device."""
    return {"device": "cpu"}


@torch.inference_mode()
def ways(shape: Shape) -> Iterator[Way]:
    """Every way on one shape. Raises ArithmeticError for one that is wrong."""
    pair = quantizers("lloyd-max", shape.head_dim, torch.device("cpu"))
    states = PackedCaches(shape, pair, 1, torch.device("cpu")).states(shape.batch)
    queries = torch.randn(shape.batch, shape.kv_heads * shape.groups, 1, shape.head_dim)
    exact = reference.attention(queries, states)
    keys, values = states.restore()
    half = [tensor.bfloat16() for tensor in (queries, keys, values)]
    single = [queries, keys, values]
    packed = states.keys.nbytes + states.values.nbytes
    gathers = partial(pagewise.attention, queries, states, read=(cpu.dot, cpu.mix))
    calls = {
        COMPILED: (partial(native_attention.attention, queries, states), True, packed),
        "turbo_kv, 3 bits, PyTorch": (gathers, True, packed),
        "SDPA, bf16, the library's default": (partial(_sdpa, *half), False, 2 * shape.values),
        "SDPA, fp32": (partial(_sdpa, *single), False, 4 * shape.values),
        "grouped heads as rows, bf16": (partial(_rows, *half), False, 2 * shape.values),
        "grouped heads as rows, fp32": (partial(_rows, *single), False, 4 * shape.values),
    }
    why = choose.why_not_c(pair, shape.groups)
    if why is not None:
        del calls[COMPILED]
        yield Way(COMPILED, True, packed, missing=why)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(TURNS + 1):
        for name, (call, _, _) in calls.items():
            seconds = _seconds(call)
            if turn:  # the first warms up
                times[name].append(1e6 * seconds)
    for name, (call, ours, nbytes) in calls.items():
        error = ((call().float() - exact).norm() / exact.norm()).item()
        error = checked(name, error, *(() if ours else (BF16_TOLERANCE,)))
        tenths = quantiles(times[name], n=10)
        yield Way(name, ours, nbytes, median(times[name]), tenths[0], tenths[-1], error)


def _seconds(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def _sdpa(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(queries, keys, values, enable_gqa=True)


def _rows(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    grouped = queries.view(*keys.shape[:2], -1, keys.shape[-1])
    scores = grouped @ keys.mT * keys.shape[-1] ** -0.5
    return (scores.softmax(-1) @ values).view_as(queries)
