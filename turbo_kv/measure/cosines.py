"""Cosine between exact and restored states by every definition in use.

One and the same cache has a cosine of 0.98 or of 0.9999, by what is taken as the vector: a number
without its definition says nothing. A constant part makes a vector long and is restored well, so
it lifts every definition that includes it. Rotary embedding lifts none: turning both sides alike
changes no angle. Knows nothing of how states were coded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity


@dataclass(frozen=True, eq=False)
class Side:
    """One layer's keys or values, fp32 (B, H_kv, T, D), and their constant part, broadcastable."""

    exact: Tensor
    restored: Tensor
    constant: Tensor


def whole_cache(layers: Sequence[Side]) -> float:
    """All layers, heads and tokens as one long vector."""
    sums = torch.zeros(3, dtype=torch.float64)
    for layer in layers:
        exact, restored = layer.exact, layer.restored
        products = (exact * restored, exact.square(), restored.square())
        sums += torch.stack([product.double().sum().cpu() for product in products])
    return float(sums[0] / (sums[1] * sums[2]).sqrt())


def per_layer(layers: Sequence[Side]) -> float:
    """Each layer as one long vector; the mean over layers."""
    return sum(whole_cache([layer]) for layer in layers) / len(layers)


def per_vector(layers: Sequence[Side]) -> float:
    """Each token's vector in each head; the mean over all of them. What a report shows."""
    cosines = [cosine_similarity(layer.exact, layer.restored, dim=-1).mean() for layer in layers]
    return float(torch.stack(cosines).mean())


def worst_vector(layers: Sequence[Side]) -> float:
    """The vector that is restored worst."""
    return min(
        float(cosine_similarity(layer.exact, layer.restored, dim=-1).min()) for layer in layers
    )


def content(layers: Sequence[Side]) -> float:
    """Each vector without the constant part of its head: what the codes alone must carry."""
    bare = [
        Side(side.exact - side.constant, side.restored - side.constant, side.constant)
        for side in layers
    ]
    return per_vector(bare)


DEFINITIONS: dict[str, Callable[[Sequence[Side]], float]] = {
    "whole cache": whole_cache,
    "per layer": per_layer,
    "per vector": per_vector,
    "worst vector": worst_vector,
    "content, per vector": content,
}


def cosines(layers: Sequence[Side]) -> dict[str, float]:
    """Every definition of `DEFINITIONS` on the keys, or on the values, of a whole cache."""
    return {name: definition(layers) for name, definition in DEFINITIONS.items()}
