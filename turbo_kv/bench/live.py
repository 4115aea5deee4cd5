"""Every way to store a cache against every other: same text, same harness, next-token figures.

Our own choices, one changed at a time, and other caches. All are fed alike: a first prompt, then
CHUNK tokens at a time. Chunks of that size leave transformers' quantized caches as many exact
tokens at each prediction as decoding does. Does not know how predictions become figures.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from transformers import Cache, PreTrainedModel

from turbo_kv.bench.baselines import BASELINES, backends, held_bytes
from turbo_kv.bench.stamp import stamp
from turbo_kv.cache.kv_cache import TurboKVCache
from turbo_kv.measure.facts import longest_text, model_facts, text_facts
from turbo_kv.measure.next_token import compare
from turbo_kv.measure.quality import Quality
from turbo_kv.models.load import load
from turbo_kv.models.progress import Progress, silent
from turbo_kv.models.text import DEFAULT_SOURCE, prepare
from turbo_kv.quant.config import QuantConfig

CHUNK = 64
CONTEXT = 2048
NEWEST = 64  # tokens not coded where a method of ours leaves some; other caches leave up to 128
TEXTS = {
    "reference": "Python language reference",
    "source": "Standard library source",
    "prose": "Prose",
}
"""The built-in texts by the short name of their result file, the default first."""


@dataclass(frozen=True)
class Method:
    """One way to store a cache. `new` may raise ImportError, whose text then stands in its row."""

    name: str
    ours: bool
    new: Callable[[PreTrainedModel], Cache]


@dataclass(frozen=True)
class Row:
    """What one method did to one text, or why it could not be tried.

    bits_per_value: of storage, at the fuller of the last two chunks: a window of exact tokens that
    fills and empties is counted while it holds something. Speed is decode.py's.
    """

    method: str
    ours: bool
    quality: Quality | None = None
    bits_per_value: float | None = None
    missing: str | None = None


def ours(name: str, quantize: str = "both", exact_window: int = 0, **choices: Any) -> Method:
    """Our cache with some choices changed from the default."""
    config = QuantConfig(**choices)
    options = {"read_back": True, "quantize": quantize, "exact_window": exact_window}
    return Method(name, True, lambda model: TurboKVCache.for_model(model, config, **options))


def windowed(name: str, bits: int) -> Method:
    """Our best codes, and the newest tokens beside them in 16 bits."""
    best = {"codebook": "query-trellis", "scale_bits": 8}
    return ours(name, exact_window=NEWEST, bits=bits, **best)


METHODS = (
    ours("3 bits"),
    ours("4 bits", bits=4),
    ours("2 bits", bits=2),
    ours("3 bits, trellis", codebook="trellis"),
    ours("3 bits, trellis, 8-bit scales", codebook="trellis", scale_bits=8),
    ours("3 bits, query-trellis", codebook="query-trellis"),
    ours("3 bits, query-trellis, 8-bit scales", codebook="query-trellis", scale_bits=8),
    ours(f"3 bits, newest {NEWEST} in 16", exact_window=NEWEST),
    windowed(f"4 bits, query-trellis, 8-bit scales, newest {NEWEST} in 16", 4),
    windowed(f"2 bits, query-trellis, 8-bit scales, newest {NEWEST} in 16", 2),
    ours("3 bits, 8-bit scales", scale_bits=8),
    ours("3 bits, fast", codebook="fast"),
    ours("3 bits, keys only", quantize="keys"),
    ours("3 bits, values only", quantize="values"),
    ours("3 bits, no rotation", rotation=False),
    ours("3 bits, centring: bias", centering="bias"),
    ours("3 bits, centring: off", centering="off"),
    ours("4 bits, centring: off", bits=4, centering="off"),
    ours("3 bits, no rotation, centring: off", rotation=False, centering="off"),
    ours("3 bits, QJL on top", qjl=True),
    ours("3 bits, QJL on top, keys only", qjl=True, qjl_on="keys"),
    ours("3 bits, QJL inside", qjl=True, qjl_budget="inside"),
    *(
        Method(each.name, False, lambda model, each=each: each.cache(model.config))
        for each in BASELINES
    ),
)


def run(
    source: str = DEFAULT_SOURCE,
    model: str = "tiny",
    context: int = CONTEXT,
    methods: Sequence[Method] = METHODS,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measure every method on one of the built-in texts; the stamped result."""
    loaded = load(model)
    prepared = prepare(loaded.tokenizer, None, context, longest_text(loaded), source)
    tokens = prepared.tokens.to(loaded.device)
    facts = model_facts(loaded)
    values = 2 * facts.layers * facts.kv_heads * facts.head_dim
    rows = []
    for index, method in enumerate(methods):
        progress(index / len(methods), f"{source}: {method.name}")
        rows.append(_measure(method, loaded.model, tokens, values))
    return {
        "stamp": stamp(),
        "model": asdict(facts),
        "text": asdict(text_facts(prepared)),
        "tokens": tokens.shape[1],
        "chunk": CHUNK,
        "backends": backends(),
        "rows": [asdict(row) for row in rows],
    }


def _measure(method: Method, model: PreTrainedModel, tokens: torch.Tensor, values: int) -> Row:
    """One method's row; `values` are the numbers that exact keys and values hold per token."""
    try:
        cache = method.new(model)
    except ImportError as error:
        return Row(method.name, method.ours, missing=" ".join(str(error).split()))
    bits = []

    def weigh(_fraction: float, _text: str) -> None:
        held = cache.nbytes if isinstance(cache, TurboKVCache) else held_bytes(cache)
        bits.append(8 * held / (values * cache.get_seq_length()))

    result = compare(model, tokens, cache, CHUNK, progress=weigh)
    return Row(
        method.name,
        method.ours,
        Quality.of(result.predictions),
        bits_per_value=max(bits[-2:]),
    )
