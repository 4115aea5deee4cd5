"""Recall at a distance: does a model still find what it read far back, once that is packed?

`recall` shows a passage of random tokens, then real text, then the passage again. Nothing but the
first showing tells how the second goes on, so the share of its tokens predicted right is recall;
the same share in the first showing says what guessing yields. The packed cache reads every token
back from its store.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from turbo_kv.cache.kv_cache import TurboKVCache
from turbo_kv.measure.answers import NewCache, Share, draw, right, share
from turbo_kv.measure.facts import longest_text
from turbo_kv.measure.needle import Needle, needle
from turbo_kv.models.load import load
from turbo_kv.models.progress import Progress, silent
from turbo_kv.models.text import prepare
from turbo_kv.quant.config import QuantConfig

DISTANCES = (0, 64, 512)
ROOM = 128
"""Positions that passages, or a hidden sentence and its question, take beside the text."""


@dataclass(frozen=True)
class Recall:
    """Recall of a passage of `length` tokens after `distance` tokens of text.

    unseen: the first showing, exact cache: what guessing yields.
    """

    distance: int
    length: int
    passages: int
    unseen: Share
    reference: Share
    quantized: Share


@dataclass(frozen=True)
class RecallReport:
    """Both tests with one way to store; its keys join those of a PerplexityReport."""

    recall: tuple[Recall, ...]
    needle: Needle

    @property
    def summary(self) -> str:
        """The finding: exact and packed accuracy at each distance, then the needle."""
        recalled = ", ".join(
            f"{each.reference.accuracy:.0%} / {each.quantized.accuracy:.0%} at {each.distance:,}"
            for each in self.recall
        )
        found = self.needle.quantized
        packed = "" if found is None else f" Packed, {found.accuracy:.0%} are found."
        return (
            f"Recall of random passages, exact / packed, by distance in tokens: {recalled}. "
            f"A number hidden in {self.needle.context:,} tokens: {self.needle.note}{packed}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)


def measure_recall(
    model: str = "tiny",
    text: str | None = None,
    context: int = 2048,
    *,
    device: str = "auto",
    dtype: str = "auto",
    config: QuantConfig | None = None,
    exact_window: int = 0,
    progress: Progress = silent,
) -> RecallReport:
    """Recall at those of DISTANCES that fit, and a needle in `context` tokens of text.

    The keywords are `analyze`'s; exact_window is `TurboKVCache`'s.
    Raises ValueError for what cannot be loaded, read or stored.
    """
    loaded = load(model, device, lambda done, said: progress(0.1 * done, said), dtype=dtype)
    limit = longest_text(loaded)
    tokens = prepare(loaded.tokenizer, text, context, limit).tokens.to(loaded.device)
    tokens = tokens[:, : limit - ROOM]

    def new_cache() -> TurboKVCache:
        windowed = {"exact_window": exact_window, "read_back": True}
        return TurboKVCache.for_model(loaded.model, config, **windowed)

    def encode(words: str) -> list[int]:
        return loaded.tokenizer(words)["input_ids"]

    distances = [distance for distance in DISTANCES if distance <= tokens.shape[1]]
    recalled = recall(
        loaded.model,
        tokens,
        new_cache,
        distances,
        progress=lambda done, said: progress(0.1 + 0.6 * done, said),
    )
    progress(0.7, "Looking for a hidden number")
    return RecallReport(recalled, needle(loaded.model, encode, tokens, new_cache))


def recall(
    model: torch.nn.Module,
    text: torch.Tensor,
    new_cache: NewCache,
    distances: Sequence[int],
    *,
    length: int = 32,
    passages: int = 8,
    progress: Progress = silent,
) -> tuple[Recall, ...]:
    """Recall of seeded random passages after each distance, the text's beginning in between.

    text: `(1, T)`; passages are drawn from its tokens one by one, so the tokens are familiar and
    their order is not. Raises ValueError for a distance beyond the text, and for fewer than two
    passages or two tokens in one.
    """
    if length < 2 or passages < 2:
        raise ValueError(f"{passages} passages of {length} tokens; use at least 2 of 2 tokens")
    shown = torch.stack([draw(text[0], length, seed) for seed in range(passages)])  # (B, n)
    first, rest = shown[:, :1], shown[:, 1:]  # nothing foretells the first token
    unseen = share(right(model, first, rest, None))
    results = []
    for distance in distances:
        if not 0 <= distance <= text.shape[1]:
            raise ValueError(f"distance is {distance}; the text between has {text.shape[1]} tokens")
        progress(len(results) / len(distances), f"Recall across {distance:,} tokens")
        context = torch.cat((shown, text[:, :distance].expand(passages, -1), first), dim=1)
        exact = share(right(model, context, rest, None))
        packed = share(right(model, context, rest, new_cache()))
        results.append(Recall(distance, length, passages, unseen, exact, packed))
    return tuple(results)
