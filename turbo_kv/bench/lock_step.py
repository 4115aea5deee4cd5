"""Several caches predict one text beside one exact cache, chunk by chunk.

Never more than two chunks of logits exist. Does not know how a cache stores, nor what the
predictions are for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields

import torch
from transformers import Cache, PreTrainedModel

from turbo_kv.bench.baselines import held_bytes
from turbo_kv.cache.kv_cache import TurboKVCache
from turbo_kv.measure.next_token import Predictions, feed, outcomes

ROWS = 64  # positions compared at once


def lock_step(
    model: PreTrainedModel,
    tokens: torch.Tensor,
    caches: Mapping[str, Cache],
    *,
    values: int,
    chunk: int,
    tell: Callable[[float], None] = lambda _done: None,
) -> tuple[dict[str, Predictions], dict[str, dict[int, float]]]:
    """Predict tokens (1, T) through the model's own cache and, beside it, through each of `caches`.

    Returns the predictions, and the bits per value by tokens held after each chunk; `values` are
    the numbers that exact keys and values hold per token.
    """
    parts: dict[str, list[Predictions]] = {name: [] for name in caches}
    bits: dict[str, dict[int, float]] = {name: {} for name in caches}
    feeds = {name: feed(model, tokens, cache, chunk) for name, cache in caches.items()}
    position = 0
    for exact, _ in feed(model, tokens, None, chunk):
        came = tokens[0, position + 1 : position + 1 + exact.shape[1]]
        position += exact.shape[1]
        for name, cache in caches.items():
            packed, _ = next(feeds[name])
            for row in range(0, len(came), ROWS):
                rows = slice(row, min(row + ROWS, len(came)))
                parts[name].append(outcomes(exact[0, rows], packed[0, rows], came[rows]))
            held = cache.nbytes if isinstance(cache, TurboKVCache) else held_bytes(cache)
            bits[name][position] = 8 * held / (values * position)
        tell(position / tokens.shape[1])
    return {name: _joined(each) for name, each in parts.items()}, bits


def _joined(parts: Sequence[Predictions]) -> Predictions:
    names = [field.name for field in fields(Predictions)]
    return Predictions(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def between(made: Predictions, start: int, stop: int) -> Predictions:
    """The predictions from `start` up to `stop`."""
    return Predictions(*(getattr(made, field.name)[start:stop] for field in fields(Predictions)))
