"""Next-token predictions of one model through two caches, side by side on the same tokens.

Logits at position t predict token t + 1 from tokens up to t, so T tokens make T - 1 predictions.
Both caches advance chunk by chunk in lock-step, and a chunk's logits are reduced to a few numbers
per position before the next is computed: never more than two chunks of logits exist.

The first chunk holds at least FIRST tokens whatever `chunk` is, as a prompt would: a frozen mean is
taken over the first update, and so does not depend on the chunk. A cache is whatever the model
takes as `cache`; None is the model's own, exact one. Knows nothing of what a cache
stores; one that hands back the current chunk exactly would hide most of its error here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from time import perf_counter

import torch

from turbo_kv.cache.layer import MEAN_TOKENS
from turbo_kv.models.progress import Progress, silent

FIRST = MEAN_TOKENS
_ROWS = 64  # positions compared at once: a few vocabulary-wide fp32 temporaries each


@dataclass(frozen=True)
class Predictions:
    """What became of each prediction, `(N,)` on the CPU.

    reference_nll, quantized_nll: negative log-likelihood of the token that came, nats, fp32.
    kl: of the quantized distribution from the exact one, nats, fp32.
    same_top1, reference_right, quantized_right: bool.
    """

    reference_nll: torch.Tensor
    quantized_nll: torch.Tensor
    kl: torch.Tensor
    same_top1: torch.Tensor
    reference_right: torch.Tensor
    quantized_right: torch.Tensor


@dataclass(frozen=True)
class Comparison:
    """Predictions of a whole text, and the seconds each cache's forwards took."""

    predictions: Predictions
    reference_seconds: float
    quantized_seconds: float


@torch.no_grad()
def feed(
    model: torch.nn.Module,
    tokens: torch.Tensor,
    cache: object | None = None,
    chunk: int = 512,
    keep: int = 0,
) -> Iterator[tuple[torch.Tensor, float]]:
    """Run tokens `(B, T)` through `cache`; yield each chunk's logits `(B, n, V)` and its seconds.

    keep: logits of the last `keep` positions of each chunk only; 0 for all.
    Raises ValueError for a chunk below 1.
    """
    if chunk < 1:
        raise ValueError(f"chunk is {chunk} tokens; choose 1 or more")
    start = 0
    while start < tokens.shape[1]:
        stop = start + chunk if start else max(chunk, FIRST)
        began = perf_counter()
        output = model(tokens[:, start:stop], cache=cache, use_cache=True, logits_to_keep=keep)
        if output.logits.device.type != "cpu":
            torch.accelerator.synchronize(output.logits.device)
        yield output.logits, perf_counter() - began
        start, cache = stop, output.cache


def compare(
    model: torch.nn.Module,
    tokens: torch.Tensor,
    quantized: object,
    chunk: int = 512,
    progress: Progress = silent,
) -> Comparison:
    """Predict tokens `(1, T)` through the model's own cache and through `quantized`, both empty.

    Raises ValueError for another shape, or for fewer than 3 tokens.
    """
    if tokens.dim() != 2 or tokens.shape[0] != 1 or tokens.shape[1] < 3:
        raise ValueError(f"tokens have shape {tuple(tokens.shape)}; give (1, T) with T at least 3")
    parts: list[Predictions] = []
    seconds = [0.0, 0.0]
    position, length = 0, tokens.shape[1]
    exact, packed = (feed(model, tokens, cache, chunk) for cache in (None, quantized))
    for (exact_logits, exact_seconds), (packed_logits, packed_seconds) in zip(
        exact, packed, strict=True
    ):
        progress(position / length, f"Predicting token {position:,} of {length:,}")
        seconds = [seconds[0] + exact_seconds, seconds[1] + packed_seconds]
        size = exact_logits.shape[1]
        came = tokens[0, position + 1 : position + 1 + size]
        for row in range(0, len(came), _ROWS):
            rows = slice(row, min(row + _ROWS, len(came)))
            parts.append(outcomes(exact_logits[0, rows], packed_logits[0, rows], came[rows]))
        position += size
    joined = (torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Predictions))
    return Comparison(Predictions(*joined), *seconds)


def outcomes(
    exact_logits: torch.Tensor, packed_logits: torch.Tensor, came: torch.Tensor
) -> Predictions:
    """Reduce logits `(n, V)` of both caches, given the tokens `(n,)` that came."""
    came = came.to(exact_logits.device)
    exact = exact_logits.float().log_softmax(-1)
    packed = packed_logits.float().log_softmax(-1)
    strongest = exact.argmax(-1)
    guess = packed.argmax(-1)
    results = Predictions(
        reference_nll=-exact.gather(-1, came[:, None])[:, 0],
        quantized_nll=-packed.gather(-1, came[:, None])[:, 0],
        kl=(exact.exp() * (exact - packed)).sum(-1),
        same_top1=strongest == guess,
        reference_right=strongest == came,
        quantized_right=guess == came,
    )
    return Predictions(*(getattr(results, f.name).cpu() for f in fields(Predictions)))
