"""What the lessons measured on one head of a capture: plain numbers, and their JSON form.

Knows neither torch nor where the numbers come from, nor how they are drawn.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import numpy as np


@dataclass(frozen=True)
class Coordinates:
    """Coordinates of unit vectors in one basis.

    energy: share of all energy in every channel, (D,). density: of the values, (bins,).
    largest: the largest size of a coordinate.
    """

    energy: np.ndarray
    density: np.ndarray
    largest: float

    def top(self, channels: int) -> float:
        """Share of all energy in the `channels` strongest channels."""
        return float(np.sort(self.energy)[::-1][:channels].sum())


@dataclass(frozen=True)
class Rotation:
    """A head's keys, as the model made them, before and after rotation.

    edges: of the bins, (bins + 1,). theory: density of a random unit vector's coordinate, (bins,).
    """

    edges: np.ndarray
    theory: np.ndarray
    plain: Coordinates
    rotated: Coordinates


@dataclass(frozen=True)
class Level:
    """A codebook at work: its levels, how often each was used, and the error that it left.

    used, expected: share of coordinates on every level, measured and in theory, (2^bits,).
    error, promised: E‖y - ŷ‖²/‖y‖², measured and in theory.
    """

    bits: int
    centroids: np.ndarray
    boundaries: np.ndarray
    used: np.ndarray
    expected: np.ndarray
    error: float
    promised: float


@dataclass(frozen=True)
class Levels:
    """Centred and rotated keys of one head against the codebooks of 2, 3 and 4 bits."""

    edges: np.ndarray
    theory: np.ndarray
    density: np.ndarray
    books: tuple[Level, ...]

    def book(self, bits: int) -> Level:
        """The codebook of so many bits."""
        return next(book for book in self.books if book.bits == bits)


@dataclass(frozen=True)
class Norms:
    """Per layer, for one KV head: the norm of the keys' constant part and of what is left, mean."""

    constant: np.ndarray  # (layers,)
    content: np.ndarray  # (layers,)


@dataclass(frozen=True)
class Estimate:
    """Logits from stored keys against true ones, without the keys' constant part, in nats.

    sketch: "off", "on-top" or "inside". estimate: of one seed, (pairs,). slope, mean_error: of
    the estimates of all seeds on the truth. spread: the standard deviation over seeds, root mean
    square over pairs. kl: attention KL of the head, nats. bits_per_value: all that is stored.
    """

    sketch: str
    estimate: np.ndarray
    slope: float
    mean_error: float
    spread: float
    kl: float
    bits_per_value: float


@dataclass(frozen=True)
class Estimates:
    """The same pairs of query and key under every use of the sketch.

    truth: (pairs,). seeds: how many.
    """

    truth: np.ndarray
    seeds: int
    ways: tuple[Estimate, ...]

    def way(self, sketch: str) -> Estimate:
        """The estimate with this use of the sketch."""
        return next(way for way in self.ways if way.sketch == sketch)


class Swap(NamedTuple):
    """A query whose strongest key changed: positions and texts of the query and of both keys."""

    query: int
    before: int
    after: int
    query_text: str
    before_text: str
    after_text: str


@dataclass(frozen=True)
class Price:
    """One way to store a head: its bytes and what they buy.

    kl: nats. top1: share of queries whose strongest key is unchanged. swap: the first that is not.
    """

    bits: int
    centering: str
    nbytes: int
    bits_per_value: float
    kl: float
    top1: float
    swap: Swap | None


@dataclass(frozen=True)
class Prices:
    """A head's keys and values in bf16, in bytes, and every way to store them."""

    before_bytes: int
    ways: tuple[Price, ...]

    def way(self, bits: int, centering: str = "mean") -> Price:
        """The price of these bits and this centring."""
        return next(way for way in self.ways if (way.bits, way.centering) == (bits, centering))


@dataclass(frozen=True)
class Lessons:
    """Everything the lessons measured on one query head."""

    layer: int
    head: int
    kv_head: int
    rotation: Rotation
    levels: Levels
    norms: Norms
    estimates: Estimates
    prices: Prices

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; `from_dict` reads it back."""
        return _plain(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Lessons":
        """Rebuild what `to_dict` wrote. Raises KeyError when a part is missing."""
        return _typed(cls, data)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _typed(kind: Any, value: Any) -> Any:
    """The JSON value as a dataclass's annotation asks."""
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{f.name: _typed(hints[f.name], value[f.name]) for f in fields(kind)})
    if kind is np.ndarray:
        return np.asarray(value)
    if get_origin(kind) is tuple:
        return tuple(_typed(get_args(kind)[0], item) for item in value)
    if kind == Swap | None:
        return None if value is None else Swap(*value)
    return value
