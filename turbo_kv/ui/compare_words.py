"""The sentences of the tab Compare: which methods are worth their bytes, and two of them at odds.

Every one has a form for better, for worse and for no difference.
"""

from collections.abc import Mapping

from turbo_kv.measure.methods import DEFAULT
from turbo_kv.measure.point import Point, front
from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui import numbers
from turbo_kv.ui.findings import ALIKE
from turbo_kv.ui.language import heard, say


def called(method: str) -> str:
    """A method's name, its differences from the default one after another."""
    return say("list.comma").join(heard("method", part) for part in method.split(", "))


def worth(points: Mapping[QuantConfig, Point]) -> str:
    """Which methods no other beats at their size."""
    if not points:
        return say("compare.none")
    best = [called(point.name) for point in front(points.values())]
    if len(points) == 1:
        return say("compare.only", name=best[0])
    others = len(points) - len(best)
    kind = ("no_other", "one_other")[others] if others < 2 else "others"
    return say(f"compare.worth.{kind}", names=_listed(best), count=others)


def centring(points: Mapping[QuantConfig, Point]) -> str:
    """Whether centring is worth more than a bit; empty unless both sides are measured."""
    centred = points.get(DEFAULT)
    plain = points.get(QuantConfig(bits=DEFAULT.bits + 1, centering="off"))
    if centred is None or plain is None:
        return ""
    factor = plain.attention_kl / centred.attention_kl
    gain = "centring" if factor >= ALIKE else "bit" if factor <= 1 / ALIKE else "same"
    return say(
        f"compare.gain.{gain}",
        bits=f"{centred.bits_per_value:.2f}",
        kl=numbers.nats(centred.attention_kl),
        plain_bits=f"{plain.bits_per_value:.2f}",
        plain_kl=numbers.nats(plain.attention_kl),
    )


def pair(first: Point, second: Point) -> str:
    """Two methods' damage and size, and the layer in which they differ most."""
    factor = first.attention_kl / second.attention_kl
    names = called(first.name), called(second.name)
    if factor >= ALIKE:
        verdict = say("compare.closer", name=names[1], factor=numbers.times(factor))
    elif factor <= 1 / ALIKE:
        verdict = say("compare.closer", name=names[0], factor=numbers.times(1 / factor))
    else:
        verdict = say("compare.equal")
    ratios = [a / b for a, b in zip(first.layer_kl, second.layer_kl)]
    layer = max(range(len(ratios)), key=lambda index: max(ratios[index], 1 / ratios[index]))
    return say(
        "compare.pair",
        verdict=verdict,
        first=names[0],
        second=names[1],
        first_bits=f"{first.bits_per_value:.2f}",
        second_bits=f"{second.bits_per_value:.2f}",
        layer=layer,
        first_kl=numbers.nats(first.layer_kl[layer]),
        second_kl=numbers.nats(second.layer_kl[layer]),
    )


def _listed(names: list[str]) -> str:
    quoted = [f"“{name}”" for name in names]
    if len(quoted) == 1:
        return quoted[0]
    return say("list.comma").join(quoted[:-1]) + say("list.or") + quoted[-1]
