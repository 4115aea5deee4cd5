"""Lesson 3: the best levels for a coordinate, how they are used, and what one more bit buys."""

import math

import numpy as np

from turbo_kv.figures.chart import Axis, Plot, legend
from turbo_kv.measure.lesson_report import Level
from turbo_kv.quant.config import BITS
from turbo_kv.ui import numbers
from turbo_kv.ui.language import say
from turbo_kv.ui.lessons import ticks
from turbo_kv.ui.lessons.lesson import Choice, Lesson, Scene
from turbo_kv.ui.tables import table

DEVIATIONS = 4
"""Half the width of the picture, in standard deviations of a coordinate."""


def truth(scene: Scene) -> float:
    measured = scene.measured.levels
    return measured.book(2).error / measured.book(3).error


def said(scene: Scene) -> str:
    before, after = (scene.measured.levels.book(bits).error for bits in (2, 3))
    return say(
        "lesson.quantize.said",
        factor=f"{truth(scene):.1f}",
        before=f"{before:.2%}",
        after=f"{after:.2%}",
    )


def settings(_: Scene) -> list[tuple[str, str]]:
    return [(str(bits), str(bits)) for bits in BITS]


def finding(scene: Scene, setting: str) -> str:
    measured = scene.measured.levels
    book = measured.book(int(setting))
    sentence = say(
        "lesson.quantize.levels",
        levels=2**book.bits,
        error=f"{book.error:.2%}",
        promised=f"{book.promised:.2%}",
    )
    if book.bits > BITS[0]:
        fewer = measured.book(book.bits - 1)
        factor = f"{fewer.error / book.error:.1f}"
        sentence += say("lesson.quantize.fewer", factor=factor, bits=fewer.bits)
    off = np.abs(book.used - book.expected).max()
    return sentence + say("lesson.quantize.use", off=f"{100 * off:.1f}")


def figure(scene: Scene, setting: str, alt: str) -> str:
    measured = scene.measured.levels
    book = measured.book(int(setting))
    width = len(scene.measured.rotation.plain.energy)
    reach = DEVIATIONS / math.sqrt(width)
    peak = 1.05 * max(measured.density.max(), measured.theory.max())
    cover = Plot(
        Axis(say("lesson.axis.coordinate"), -reach, reach, ticks.around(reach)),
        Axis(say("lesson.axis.density"), 0, peak, ticks.upto(peak)),
    )
    middles = (measured.edges[1:] + measured.edges[:-1]) / 2
    seen = np.abs(middles) < reach
    levels = [
        cover.bars(
            measured.edges[:-1][seen], measured.edges[1:][seen], measured.density[seen], "quiet"
        ),
        cover.line(middles[seen], measured.theory[seen], "theory"),
        cover.upright(book.boundaries, "boundary"),
        cover.dots(book.centroids, np.full(len(book.centroids), 0.03 * peak), "packed"),
    ]
    title = say("lesson.quantize.plot", levels=2**book.bits)
    return (
        f'<div class="charts">{cover.html(title, alt, levels)}{_use(book, alt)}</div>'
        + legend(
            ("bars", "quiet", say("lesson.quantize.coordinates")),
            ("line", "theory", say("lesson.quantize.theory")),
            ("line", "boundary", say("lesson.quantize.boundaries")),
            ("dots", "packed", say("lesson.quantize.level")),
            ("bars", "packed", say("lesson.quantize.used")),
            ("dots", "theory", say("lesson.quantize.expected")),
        )
        + table(
            say("lesson.quantize.table"),
            [say(f"lesson.quantize.column.{name}") for name in ("code", "level", "used", "due")],
            [
                (
                    str(code),
                    f"{level:+.3f}".replace("-", "−"),
                    numbers.percent(used),
                    numbers.percent(due),
                )
                for code, (level, used, due) in enumerate(
                    zip(book.centroids, book.used, book.expected)
                )
            ],
        )
    )


def _use(book: Level, alt: str) -> str:
    codes = np.arange(2**book.bits)
    most = 1.1 * max(book.used.max(), book.expected.max())
    plot = Plot(
        Axis(
            say("lesson.quantize.code"), 0, len(codes), [(code + 0.5, str(code)) for code in codes]
        ),
        Axis(say("lesson.quantize.share"), 0, most, ticks.upto(most, "{:.0%}")),
    )
    shapes = [
        plot.bars(codes + 0.1, codes + 0.9, book.used, "packed"),
        plot.dots(codes + 0.5, book.expected, "theory"),
    ]
    return plot.html(say("lesson.quantize.used"), alt, shapes)


LESSON = Lesson(
    key="quantize",
    setup=lambda _: say("lesson.quantize.setup"),
    question=lambda _: say("lesson.quantize.question"),
    choices=(
        Choice(0, 2),
        Choice(2, 3),
        Choice(3, 5),
        Choice(5, math.inf),
    ),
    truth=truth,
    said=said,
    settings=settings,
    start=lambda _: str(BITS[0]),
    figure=figure,
    finding=finding,
)
