"""Lesson 6: bytes against attention, and the first query that looks elsewhere."""

import math

import numpy as np

from turbo_kv.figures.chart import Axis, Plot, legend, table
from turbo_kv.measure.lesson_report import Price
from turbo_kv.quant.config import BITS
from turbo_kv.ui import numbers
from turbo_kv.ui.lessons import ticks
from turbo_kv.ui.lessons.lesson import Choice, Lesson, Scene
from turbo_kv.ui.map_values import quoted

MEAN, OFF = "mean", "off"


def _three(scene: Scene) -> Price:
    return scene.measured.prices.way(3)


def question(scene: Scene) -> str:
    ratio = scene.measured.prices.before_bytes / _three(scene).nbytes
    return (
        f"At 3 bits this head's cache is {ratio:.2f} times smaller. For how many queries does it "
        "still look first at the same token?"
    )


def truth(scene: Scene) -> float:
    return _three(scene).top1


def said(scene: Scene) -> str:
    return f"for {numbers.percent(truth(scene))} of them."


def settings(_: Scene) -> list[tuple[str, str]]:
    return [(str(bits), str(bits)) for bits in BITS]


def finding(scene: Scene, setting: str) -> str:
    way = scene.measured.prices.way(int(setting))
    ratio = scene.measured.prices.before_bytes / way.nbytes
    return (
        f"{way.bits} bits: {ratio:.2f} times smaller, attention KL {numbers.nats(way.kl)} nats. "
        f"The strongest token stays the same for {numbers.percent(way.top1)} of the queries. "
        f"{_swap(way)}"
    )


def _swap(way: Price) -> str:
    swap = way.swap
    if swap is None:
        return "No query looks elsewhere first."
    return (
        f"The first that looks elsewhere: token {swap.query:,}, {quoted(swap.query_text)}, turned "
        f"from {quoted(swap.before_text)} at {swap.before:,} to {quoted(swap.after_text)} at "
        f"{swap.after:,}."
    )


def figure(scene: Scene, setting: str, alt: str) -> str:
    prices = scene.measured.prices
    ends = [10.0 ** math.floor(math.log10(max(min(w.kl for w in prices.ways), 1e-5)))]
    ends.append(max(10.0 ** math.ceil(math.log10(max(w.kl for w in prices.ways))), 1.0))
    low, high = (round(math.log10(end)) for end in ends)
    plot = Plot(
        Axis("stored bits per value; bf16 has 16", 0, 5, ticks.upto(5)),
        Axis("attention KL, nats, logarithmic", *ends, ticks.decades(low, high), log=True),
    )
    shapes, labels = [], []
    for centering, kind in ((OFF, "broken"), (MEAN, "packed")):
        ways = [prices.way(bits, centering) for bits in BITS]
        xs, ys = (np.array([getattr(w, f) for w in ways]) for f in ("bits_per_value", "kl"))
        chosen = [way.bits == int(setting) for way in ways]
        shapes += [
            plot.line(xs, ys, kind),
            plot.dots(xs, ys, kind),
            plot.dots(xs[chosen], ys[chosen], f"large {kind}"),
        ]
        labels += [
            plot.label(way.bits_per_value, way.kl, f"{way.bits} bits", "above") for way in ways
        ]
    return (
        plot.html("What a byte buys", alt, shapes, labels)
        + legend(("line", "packed", "centred"), ("line", "broken", "centring off"))
        + table(
            "Bytes and attention of this head",
            ("Bits", "Centring", "KiB", "Bits per value", "KL, nats", "Strongest token kept"),
            [
                (
                    str(way.bits),
                    way.centering,
                    f"{way.nbytes / 1024:.1f}",
                    f"{way.bits_per_value:.2f}",
                    numbers.nats(way.kl),
                    numbers.percent(way.top1),
                )
                for way in prices.ways
            ],
        )
    )


LESSON = Lesson(
    name="Pay",
    title="What it buys",
    setup=lambda _: "Keys and values, rotated; every bit that is stored counts.",
    question=question,
    choices=(
        Choice("fewer than half", 0, 0.5),
        Choice("50 to 70%", 0.5, 0.7),
        Choice("70 to 90%", 0.7, 0.9),
        Choice("more than 90%", 0.9, math.inf),
    ),
    truth=truth,
    said=said,
    control="Bits per coordinate",
    settings=settings,
    start=lambda _: "3",
    figure=figure,
    finding=finding,
    why=(
        "Bytes grow in step with the bits while the damage shrinks by a factor with each, so every "
        "further bit buys less than the one before. Many changes of a strongest token are between "
        "two that were nearly equal; whether a reader notices, the tab Generate shows in words."
    ),
)
