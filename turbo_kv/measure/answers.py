"""How much of an answer a model foretells after a context, whatever cache it reads through.

Judged by the strongest next token, with the true tokens as input. Does not know the question.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from turbo_kv.measure.next_token import feed

NewCache = Callable[[], object]


@dataclass(frozen=True)
class Share:
    """A share of tokens predicted right, and its standard error over passages or depths."""

    accuracy: float
    stderr: float


def right(
    model: torch.nn.Module, context: torch.Tensor, answer: torch.Tensor, cache: object | None
) -> torch.Tensor:
    """Share of the answer `(B, n)` predicted right after context `(B, T)`, row by row `(B,)`."""
    count = answer.shape[1]
    read = torch.cat((context, answer[:, :-1]), dim=1)
    guesses = [logits.argmax(-1) for logits, _ in feed(model, read, cache, keep=count)]
    return (torch.cat(guesses, dim=1)[:, -count:] == answer).float().mean(-1).cpu()


def share(accuracies: torch.Tensor) -> Share:
    """Mean and standard error of independent accuracies `(N,)`, N at least 2."""
    spread = accuracies.std(correction=1) / math.sqrt(len(accuracies))
    return Share(float(accuracies.mean()), float(spread))


def draw(tokens: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    """Draw `count` of `tokens` `(T,)` at random, with repetition: `(count,)`."""
    places = torch.randint(len(tokens), (count,), generator=torch.Generator().manual_seed(seed))
    return tokens[places.to(tokens.device)]
