"""Decoding at a long context: tokens per second and memory of the packed cache and of others.

Every cache gets a process of its own, so that the memory a process gains is that cache's. A step
is one token through the whole model, not attention alone. Knows nothing of quality.
"""

import ctypes
import gc
import multiprocessing
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import psutil
import torch
from transformers import Cache, DynamicCache, PreTrainedModel

from turbo_kv.bench.baselines import BASELINES, held_bytes
from turbo_kv.bench.live import NEWEST
from turbo_kv.bench.stamp import stamp
from turbo_kv.cache.attending import attending
from turbo_kv.cache.attention import NAME as PACKED_ATTENTION
from turbo_kv.cache.kv_cache import TurboKVCache
from turbo_kv.measure.facts import longest_text, model_facts
from turbo_kv.measure.next_token import feed
from turbo_kv.models.load import load
from turbo_kv.models.progress import Progress, silent
from turbo_kv.models.text import prepare
from turbo_kv.quant.config import QuantConfig

STEPS = 32
CHUNK = 512
BF16_BYTES = 2
BEST = QuantConfig(codebook="query-trellis", scale_bits=8)


@dataclass(frozen=True)
class Method:
    """A cache by name, and the attention that reads it: None for the model's own."""

    name: str
    new: Callable[[PreTrainedModel], Cache]
    attention: str | None = None


METHODS = (
    Method("full precision, the library's default", lambda model: DynamicCache()),
    Method(
        "turbo_kv, 3 bits, read packed",
        lambda model: TurboKVCache(model.config),
        PACKED_ATTENTION,
    ),
    Method(
        f"turbo_kv, 3 bits, newest {NEWEST} in 16, read packed",
        lambda model: TurboKVCache(model.config, exact_window=NEWEST),
        PACKED_ATTENTION,
    ),
    Method(
        "turbo_kv, 3 bits, query-trellis, 8-bit scales, read packed",
        lambda model: TurboKVCache.for_model(model, BEST),
        PACKED_ATTENTION,
    ),
    Method("turbo_kv, 3 bits, restored at each step", lambda model: TurboKVCache(model.config)),
    *(
        Method(each.name, lambda model, each=each: each.cache(model.config))
        for each in BASELINES
        if each.name.startswith(("quanto", "HQQ"))
    ),
)


@dataclass(frozen=True)
class Row:
    """One cache filled to `tokens`, or why it could not be tried.

    tokens_per_second: of the median step among the last STEPS. cache_bytes: of the storage behind
    everything it keeps; `ratio` is bf16's bytes over them. process_bytes: resident memory that the
    process gained by filling it, after freed memory went back.
    """

    method: str
    tokens: int | None = None
    tokens_per_second: float | None = None
    cache_bytes: int | None = None
    ratio: float | None = None
    process_bytes: int | None = None
    missing: str | None = None


def run(model: str = "tiny", context: int = 8192, progress: Progress = silent) -> dict[str, Any]:
    """Decode the end of the default text with every cache; the stamped result."""
    fresh = multiprocessing.get_context("spawn")
    rows = []
    for index, method in enumerate(METHODS):
        progress(index / len(METHODS), f"Decoding at {context:,} tokens: {method.name}")
        with fresh.Pool(1) as pool:
            rows.append(pool.apply(partial(_row, model, context, index)))
    return {
        "stamp": stamp(),
        "model": asdict(model_facts(load(model))),
        "steps": STEPS,
        "rows": [asdict(row) for row in rows],
    }


@torch.inference_mode()
def _row(model: str, context: int, index: int) -> Row:
    """One method, by its index: what is sent to the process must pickle."""
    method, loaded = METHODS[index], load(model)
    try:
        cache = method.new(loaded.model)
    except ImportError as error:
        return Row(method.name, missing=" ".join(str(error).split()))
    text = prepare(loaded.tokenizer, None, context, longest_text(loaded))
    tokens = text.tokens.to(loaded.device)
    with attending(loaded.model, method.attention):
        for _ in feed(loaded.model, tokens[:, :CHUNK], keep=1):
            pass  # what the first forward allocates for good is not the cache's
        before = _resident_bytes()
        for _ in feed(loaded.model, tokens[:, :-STEPS], cache, CHUNK, keep=1):
            pass
        gained = _resident_bytes() - before
        seconds = [_step(loaded.model, token, cache) for token in tokens[:, -STEPS:].split(1, 1)]
    facts = model_facts(loaded)
    exact = 2 * facts.layers * facts.kv_heads * facts.head_dim * BF16_BYTES * tokens.shape[1]
    held = cache.nbytes if isinstance(cache, TurboKVCache) else held_bytes(cache)
    return Row(
        method.name,
        tokens=cache.get_seq_length(),
        tokens_per_second=1 / median(seconds),
        cache_bytes=held,
        ratio=exact / held,
        process_bytes=gained,
    )


def _step(model: PreTrainedModel, token: torch.Tensor, cache: Cache) -> float:
    start = perf_counter()
    logits = model(token, cache=cache, use_cache=True).logits
    logits[0, -1].argmax().item()  # what decoding waits for
    return perf_counter() - start


def _resident_bytes() -> int:
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return psutil.Process().memory_info().rss
