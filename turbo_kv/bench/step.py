"""A whole decode step with Qwen2.5-7B's shapes: tokens per second over bf16 and over pages.

`python -m turbo_kv bench step`. Random weights: a speed figure only. Each step is one captured CUDA
graph; both caches run in one process, one after the other, on the same weights. The longest context
is found by filling the memory that is left and taking a step.
"""

from typing import Any

import torch
from torch.nn.attention import SDPBackend

from turbo_kv.bench.graph import copy_bandwidth, replay
from turbo_kv.bench.stamp import stamp
from turbo_kv.kernels.pages import PAGE
from turbo_kv.models.progress import Progress

CASES = ((1, 131072), (32, 32768))  # batch, tokens
BF16 = {
    "bf16, SDPA of cuDNN": SDPBackend.CUDNN_ATTENTION,
    "bf16, SDPA of flash": SDPBackend.FLASH_ATTENTION,
}
PACKED = {"3 bits, lloyd-max": "lloyd-max", "3 bits, fast": "fast"}
LONGEST = ("bf16, SDPA of flash", "3 bits, fast")
SPARE = 3 * 2**30  # bytes left to a step itself when the memory is filled


def run(progress: Progress) -> dict[str, Any]:
    """Measure every case; ValueError without a CUDA device."""
    if not torch.cuda.is_available():
        raise ValueError("a decode step is timed on a CUDA device, and there is none")
    from turbo_kv.bench import step_model

    result: dict[str, Any] = {
        "stamp": stamp(),
        "weights": "random, of Qwen2.5-7B's shapes: a speed and no quality",
        "copy_bytes_per_second": copy_bandwidth(),
        "rows": [],
        "longest": [],
    }
    with torch.inference_mode():
        model = step_model.Model()
        result["weight_bytes"] = torch.cuda.memory_allocated()
        for batch, tokens in CASES:
            for kind in BF16 | PACKED:
                progress(0.0, f"{kind}, {batch} texts of {tokens:,} tokens")
                result["rows"].append(_measured(step_model, model, kind, batch, tokens))
        for kind in LONGEST:
            result["longest"].append(_longest(step_model, model, kind))
    return result


def _measured(step_model: Any, model: Any, kind: str, batch: int, tokens: int) -> dict[str, Any]:
    row = {"cache": kind, "batch": batch, "tokens": tokens}
    try:
        cache = _cache(step_model, kind, batch, tokens)
        time = replay([_step(step_model, model, cache, batch, tokens)])
    except torch.OutOfMemoryError:
        return row | {"missing": "does not fit in the device's memory"}
    finally:
        torch.cuda.empty_cache()
    return row | {
        "missing": None,
        "cache_bytes": cache.nbytes,
        "milliseconds": {name: value / 1e3 for name, value in vars(time).items()},
        "tokens_per_second": batch / time.median * 1e6,
    }


def _longest(step_model: Any, model: Any, kind: str) -> dict[str, Any]:
    """The longest text whose cache fits beside the weights, and a step over it."""
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info()[0] - SPARE
    few = _cache(step_model, kind, 1, 100 * PAGE)
    tokens = free * 100 // few.nbytes * PAGE
    del few
    return _measured(step_model, model, kind, 1, tokens)


def _cache(step_model: Any, kind: str, batch: int, tokens: int) -> Any:
    if kind in BF16:
        return step_model.ExactCache(batch, tokens, BF16[kind])
    return step_model.PackedCache(batch, tokens, PACKED[kind])


def _step(step_model: Any, model: Any, cache: Any, batch: int, tokens: int) -> Any:
    last = torch.zeros(batch, dtype=torch.long, device="cuda")
    slot = step_model.rotary_table(tokens - 1, tokens)
    return lambda: last.copy_(model.step(last, slot, cache.attend))
