"""The sentences of the tab Compare: which methods are worth their bytes, and two of them at odds.

Every one has a form for better, for worse and for no difference.
"""

from collections.abc import Mapping

from turbo_kv.measure.methods import DEFAULT
from turbo_kv.measure.point import Point, front
from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui import numbers
from turbo_kv.ui.findings import ALIKE


def worth(points: Mapping[QuantConfig, Point]) -> str:
    """Which methods no other beats at their size."""
    if not points:
        return "No method is measured on this reading yet. Press Compare."
    best = [point.name for point in front(points.values())]
    if len(points) == 1:
        return f"Only {best[0]} is measured on this reading yet. Press Compare for the others."
    said = f"Nothing measured here beats {_listed(best)} at its size"
    others = len(points) - len(best)
    if not others:
        return f"{said}: whoever saves bytes pays with damage."
    rest = "the other one is" if others == 1 else f"the other {others} are"
    return f"{said}; {rest} larger, or as large, for more damage."


def centring(points: Mapping[QuantConfig, Point]) -> str:
    """Whether centring is worth more than a bit; empty unless both sides are measured."""
    centred = points.get(DEFAULT)
    plain = points.get(QuantConfig(bits=DEFAULT.bits + 1, centering="off"))
    if centred is None or plain is None:
        return ""
    figures = (
        f"{_size(centred)} with it leave {numbers.nats(centred.attention_kl)} nats, "
        f"{_size(plain)} without it {numbers.nats(plain.attention_kl)}."
    )
    factor = plain.attention_kl / centred.attention_kl
    if factor >= ALIKE:
        return f"Centring gains more than another bit here: {figures}"
    if factor <= 1 / ALIKE:
        return f"Another bit gains more than centring here: {figures}"
    return f"Centring and another bit gain the same here: {figures}"


def pair(first: Point, second: Point) -> str:
    """Two methods' damage and size, and the layer in which they differ most."""
    factor = first.attention_kl / second.attention_kl
    if factor >= ALIKE:
        verdict = f"“{second.name}” stays {numbers.times(factor)} times closer to exact"
    elif factor <= 1 / ALIKE:
        verdict = f"“{first.name}” stays {numbers.times(1 / factor)} times closer to exact"
    else:
        verdict = "Both stay equally close to exact"
    ratios = [a / b for a, b in zip(first.layer_kl, second.layer_kl)]
    layer = max(range(len(ratios)), key=lambda index: max(ratios[index], 1 / ratios[index]))
    return (
        f"{verdict}, at {second.bits_per_value:.2f} against {first.bits_per_value:.2f} bits per "
        f"value. They differ most in layer {layer}: {numbers.nats(first.layer_kl[layer])} nats "
        f"with “{first.name}”, {numbers.nats(second.layer_kl[layer])} with “{second.name}”."
    )


def _size(point: Point) -> str:
    return f"{point.bits_per_value:.2f} bits per value"


def _listed(names: list[str]) -> str:
    quoted = [f"“{name}”" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"
