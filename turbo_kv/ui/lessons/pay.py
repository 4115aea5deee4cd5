"""Lesson 6: bytes against attention, and the first query that looks elsewhere."""

import math

import numpy as np

from turbo_kv.figures.chart import Axis, Plot, legend
from turbo_kv.measure.lesson_report import Price
from turbo_kv.quant.config import BITS
from turbo_kv.ui import numbers, wording
from turbo_kv.ui.language import say
from turbo_kv.ui.lessons import ticks
from turbo_kv.ui.lessons.lesson import Choice, Lesson, Scene
from turbo_kv.ui.map_values import quoted
from turbo_kv.ui.tables import table

MEAN, OFF = "mean", "off"
_COLUMNS = (
    *("choice.bits", "choice.centering", "unit.kib"),
    *("metric.bits_per_value", "lesson.kl_nats", "lesson.pay.kept"),
)


def _three(scene: Scene) -> Price:
    return scene.measured.prices.way(3)


def question(scene: Scene) -> str:
    ratio = scene.measured.prices.before_bytes / _three(scene).nbytes
    return say("lesson.pay.question", ratio=f"{ratio:.2f}")


def truth(scene: Scene) -> float:
    return _three(scene).top1


def said(scene: Scene) -> str:
    return say("lesson.pay.said", kept=numbers.percent(truth(scene)))


def settings(_: Scene) -> list[tuple[str, str]]:
    return [(str(bits), str(bits)) for bits in BITS]


def finding(scene: Scene, setting: str) -> str:
    way = scene.measured.prices.way(int(setting))
    ratio = scene.measured.prices.before_bytes / way.nbytes
    return say(
        "lesson.pay.finding",
        bits=way.bits,
        ratio=f"{ratio:.2f}",
        kl=numbers.nats(way.kl),
        kept=numbers.percent(way.top1),
        swap=_swap(way),
    )


def _swap(way: Price) -> str:
    swap = way.swap
    if swap is None:
        return say("lesson.pay.no_swap")
    return say(
        "lesson.pay.swap",
        query=f"{swap.query:,}",
        query_text=quoted(swap.query_text),
        before=f"{swap.before:,}",
        before_text=quoted(swap.before_text),
        after=f"{swap.after:,}",
        after_text=quoted(swap.after_text),
    )


def figure(scene: Scene, setting: str, alt: str) -> str:
    prices = scene.measured.prices
    ends = [10.0 ** math.floor(math.log10(max(min(w.kl for w in prices.ways), 1e-5)))]
    ends.append(max(10.0 ** math.ceil(math.log10(max(w.kl for w in prices.ways))), 1.0))
    low, high = (round(math.log10(end)) for end in ends)
    plot = Plot(
        Axis(say("lesson.pay.bits"), 0, 5, ticks.upto(5)),
        Axis(say("lesson.axis.attention_kl"), *ends, ticks.decades(low, high), log=True),
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
            plot.label(way.bits_per_value, way.kl, say("lesson.pay.label", bits=way.bits), "above")
            for way in ways
        ]
    return (
        plot.html(say("lesson.pay.plot"), alt, shapes, labels)
        + legend(
            ("line", "packed", say("lesson.pay.centred")),
            ("line", "broken", say("lesson.pay.plain")),
        )
        + table(
            say("lesson.pay.table"),
            [say(name) for name in _COLUMNS],
            [
                (
                    str(way.bits),
                    wording.value(way.centering),
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
    key="pay",
    setup=lambda _: say("lesson.pay.setup"),
    question=question,
    choices=(
        Choice(0, 0.5),
        Choice(0.5, 0.7),
        Choice(0.7, 0.9),
        Choice(0.9, math.inf),
    ),
    truth=truth,
    said=said,
    settings=settings,
    start=lambda _: "3",
    figure=figure,
    finding=finding,
)
