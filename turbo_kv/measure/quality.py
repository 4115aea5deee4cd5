"""Predictions of a whole text, in a handful of figures: perplexity, KL, top-1, flips.

Two perplexities may agree while the predictions do not (errors cancel), so the divergence of each
prediction and the tokens that changed sides stand beside them (flips: arXiv 2407.09141). Knows
nothing of models or caches.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch

from turbo_kv.measure.next_token import Predictions


@dataclass(frozen=True)
class Perplexity:
    """exp of the mean negative log-likelihood, and its standard error."""

    perplexity: float
    stderr: float

    @classmethod
    def of(cls, losses: torch.Tensor) -> Self:
        """From one loss per prediction `(N,)`, nats."""
        perplexity = math.exp(losses.double().mean())
        return cls(perplexity, perplexity * batch_means_stderr(losses))


@dataclass(frozen=True)
class Change:
    """Relative change of perplexity; the standard error is that of paired losses."""

    relative: float
    stderr: float


@dataclass(frozen=True)
class Divergence:
    """KL of each next-token distribution from the exact one, nats; p99 is the worst hundredth."""

    mean: float
    stderr: float
    p99: float


@dataclass(frozen=True)
class Flips:
    """Shares of predictions that packing turned from right to wrong, and from wrong to right."""

    lost: float
    gained: float


@dataclass(frozen=True)
class Quality:
    """Exact against quantized, over `predictions` next tokens.

    top1: share of predictions whose strongest token is unchanged, right or wrong.
    """

    predictions: int
    reference: Perplexity
    quantized: Perplexity
    change: Change
    kl: Divergence
    top1: float
    flips: Flips

    @classmethod
    def of(cls, made: Predictions) -> Self:
        """Reduce per-position outcomes `(N,)`, N at least 2."""
        paired = Perplexity.of(made.quantized_nll - made.reference_nll)
        lost = made.reference_right & ~made.quantized_right
        gained = ~made.reference_right & made.quantized_right
        kl = made.kl.double()
        return cls(
            predictions=len(kl),
            reference=Perplexity.of(made.reference_nll),
            quantized=Perplexity.of(made.quantized_nll),
            change=Change(paired.perplexity - 1, paired.stderr),
            kl=Divergence(float(kl.mean()), batch_means_stderr(kl), float(kl.quantile(0.99))),
            top1=_share(made.same_top1),
            flips=Flips(_share(lost), _share(gained)),
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def batch_means_stderr(samples: torch.Tensor) -> float:
    """Standard error of the mean of correlated samples `(N,)`, N at least 2.

    Neighbouring tokens are easy or hard together, so the plain formula is too hopeful. The spread
    of the means of about √N consecutive blocks of √N samples keeps short-range correlation inside
    the blocks (batch means; a remainder shorter than a block is left out).
    """
    size = math.isqrt(len(samples))
    blocks = samples[: len(samples) // size * size].double().reshape(-1, size).mean(-1)
    return float(blocks.std(correction=1) / math.sqrt(len(blocks)))


def _share(which: torch.Tensor) -> float:
    return float(which.double().mean())
