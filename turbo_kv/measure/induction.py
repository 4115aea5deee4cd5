"""Recall at a distance: does a model still find what it read far back, once that is packed?

`recall` shows a passage of random tokens, then real text, then the passage again. Nothing but the
first showing tells how the second goes on, so the share of its tokens predicted right is recall;
the same share in the first showing says what guessing yields. `needle` hides a sentence with a
number in real text and asks for the number at the end. Both are judged by the strongest next token
with the true tokens as input, through a cache that reads every token back from its store.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from turbo_kv.cache.kv_cache import TurboKVCache
from turbo_kv.measure.facts import longest_text
from turbo_kv.measure.next_token import feed
from turbo_kv.models.load import load
from turbo_kv.models.progress import Progress, silent
from turbo_kv.models.text import prepare
from turbo_kv.quant.config import QuantConfig

QUESTION = " The secret number of the old lighthouse is "
DISTANCES = (0, 64, 256, 1024)
ROOM = 64
DEPTHS = (0.1, 0.3, 0.5, 0.7, 0.9)
FINDS = 0.5
"""Share of digits the exact cache must find before packing is worth trying."""

NewCache = Callable[[], object]
Encode = Callable[[str], list[int]]


@dataclass(frozen=True)
class Share:
    """A share of tokens predicted right, and its standard error over passages or depths."""

    accuracy: float
    stderr: float


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
class Needle:
    """Digits found in `context` tokens of text; `quantized` is None when exact does not do it."""

    context: int
    depths: tuple[float, ...]
    reference: Share
    quantized: Share | None
    note: str


@dataclass(frozen=True)
class RecallReport:
    """Both tests with one way to store; its keys join those of a PerplexityReport."""

    recall: tuple[Recall, ...]
    needle: Needle

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)


def measure_recall(
    model: str = "tiny",
    text: str | None = None,
    context: int = 2048,
    *,
    device: str = "auto",
    config: QuantConfig | None = None,
    progress: Progress = silent,
) -> RecallReport:
    """Recall at those of DISTANCES that fit, and a needle in `context` tokens of text.

    The keywords are `analyze`'s. Raises ValueError for what cannot be loaded, read or stored.
    """
    loaded = load(model, device, lambda done, said: progress(0.1 * done, said))
    limit = longest_text(loaded)
    tokens = prepare(loaded.tokenizer, text, context, limit).tokens.to(loaded.device)
    # The passage comes twice, the hidden sentence and its question once: they take room too.
    tokens = tokens[:, : limit - 2 * ROOM]

    def new_cache() -> TurboKVCache:
        return TurboKVCache.for_model(loaded.model, config, read_back=True)

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
    shown = torch.stack([_draw(text[0], length, seed) for seed in range(passages)])  # (B, n)
    first, rest = shown[:, :1], shown[:, 1:]  # nothing foretells the first token
    unseen = _share(_right(model, first, rest, None))
    results = []
    for distance in distances:
        if not 0 <= distance <= text.shape[1]:
            raise ValueError(f"distance is {distance}; the text between has {text.shape[1]} tokens")
        progress(len(results) / len(distances), f"Recall across {distance:,} tokens")
        context = torch.cat((shown, text[:, :distance].expand(passages, -1), first), dim=1)
        exact = _share(_right(model, context, rest, None))
        packed = _share(_right(model, context, rest, new_cache()))
        results.append(Recall(distance, length, passages, unseen, exact, packed))
    return tuple(results)


def needle(
    model: torch.nn.Module,
    encode: Encode,
    text: torch.Tensor,
    new_cache: NewCache,
    digits: int = 5,
) -> Needle:
    """Find a number hidden in text `(1, T)`, at each of DEPTHS: 0 is its beginning, 1 its end."""
    trials = [_hide(encode, text, depth, digits, seed) for seed, depth in enumerate(DEPTHS)]
    exact = _share(torch.cat([_right(model, *trial, None) for trial in trials]))
    note = f"The exact cache finds {exact.accuracy:.0%} of the digits."
    if exact.accuracy < FINDS:
        note += " Too few to tell what packing costs, so it was not tried."
        return Needle(text.shape[1], DEPTHS, exact, None, note)
    packed = _share(torch.cat([_right(model, *trial, new_cache()) for trial in trials]))
    return Needle(text.shape[1], DEPTHS, exact, packed, note)


def _draw(tokens: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    places = torch.randint(len(tokens), (count,), generator=torch.Generator().manual_seed(seed))
    return tokens[places.to(tokens.device)]


def _hide(
    encode: Encode, text: torch.Tensor, depth: float, digits: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The text with a number hidden in it and the question `(1, T)`, and the number `(1, n)`."""
    number = "".join(map(str, _draw(torch.arange(10), digits, seed).tolist()))
    sentence, question, answer = (
        torch.tensor([encode(words)], device=text.device)
        for words in (f"{QUESTION}{number}.", QUESTION, number)
    )
    place = round(depth * text.shape[1])
    return torch.cat((text[:, :place], sentence, text[:, place:], question), dim=1), answer


def _right(
    model: torch.nn.Module, context: torch.Tensor, answer: torch.Tensor, cache: object | None
) -> torch.Tensor:
    """Share of the answer `(B, n)` predicted right after context `(B, T)`, row by row `(B,)`."""
    count = answer.shape[1]
    read = torch.cat((context, answer[:, :-1]), dim=1)
    guesses = [logits.argmax(-1) for logits, _ in feed(model, read, cache, keep=count)]
    return (torch.cat(guesses, dim=1)[:, -count:] == answer).float().mean(-1).cpu()


def _share(accuracies: torch.Tensor) -> Share:
    spread = accuracies.std(correction=1) / math.sqrt(len(accuracies))
    return Share(float(accuracies.mean()), float(spread))
