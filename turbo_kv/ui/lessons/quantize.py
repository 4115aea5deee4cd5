"""Lesson 3: the best levels for a coordinate, how they are used, and what one more bit buys."""

import math

import numpy as np

from turbo_kv.figures.chart import Axis, Plot, legend, table
from turbo_kv.measure.lesson_report import Level
from turbo_kv.quant.config import BITS
from turbo_kv.ui import numbers
from turbo_kv.ui.lessons import ticks
from turbo_kv.ui.lessons.lesson import Choice, Lesson, Scene

DEVIATIONS = 4
"""Half the width of the picture, in standard deviations of a coordinate."""


def truth(scene: Scene) -> float:
    measured = scene.measured.levels
    return measured.book(2).error / measured.book(3).error


def said(scene: Scene) -> str:
    before, after = (scene.measured.levels.book(bits).error for bits in (2, 3))
    return f"by {truth(scene):.1f} times, from {before:.2%} to {after:.2%} of the keys' energy."


def settings(_: Scene) -> list[tuple[str, str]]:
    return [(str(bits), str(bits)) for bits in BITS]


def finding(scene: Scene, setting: str) -> str:
    measured = scene.measured.levels
    book = measured.book(int(setting))
    sentence = (
        f"{2**book.bits} levels leave {book.error:.2%} of the keys' energy as error, where theory "
        f"promises {book.promised:.2%}."
    )
    if book.bits > BITS[0]:
        fewer = measured.book(book.bits - 1)
        sentence += f" That is {fewer.error / book.error:.1f} times less than {fewer.bits} bits."
    off = np.abs(book.used - book.expected).max()
    return (
        f"{sentence} Every level is used as theory expects to within {100 * off:.1f} percentage "
        "points."
    )


def figure(scene: Scene, setting: str, alt: str) -> str:
    measured = scene.measured.levels
    book = measured.book(int(setting))
    width = len(scene.measured.rotation.plain.energy)
    reach = DEVIATIONS / math.sqrt(width)
    peak = 1.05 * max(measured.density.max(), measured.theory.max())
    cover = Plot(
        Axis("coordinate, as a share of its key's norm", -reach, reach, ticks.around(reach)),
        Axis("density", 0, peak, ticks.upto(peak)),
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
    title = f"{2**book.bits} levels for every coordinate"
    return (
        f'<div class="charts">{cover.html(title, alt, levels)}{_use(book, alt)}</div>'
        + legend(
            ("bars", "quiet", "this head's coordinates"),
            ("line", "theory", "theory"),
            ("line", "boundary", "boundaries between levels"),
            ("dots", "packed", "levels"),
            ("bars", "packed", "codes used"),
            ("dots", "theory", "use that theory expects"),
        )
        + table(
            "Levels and their use",
            ("Code", "Level", "Used", "Expected"),
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
        Axis("code", 0, len(codes), [(code + 0.5, str(code)) for code in codes]),
        Axis("share of all coordinates", 0, most, ticks.upto(most, "{:.0%}")),
    )
    shapes = [
        plot.bars(codes + 0.1, codes + 0.9, book.used, "packed"),
        plot.dots(codes + 0.5, book.expected, "theory"),
    ]
    return plot.html("Codes used", alt, shapes)


LESSON = Lesson(
    name="Quantize",
    title="What one more bit buys",
    setup=lambda _: "The keys centred by their mean and rotated.",
    question=lambda _: "By how much does the squared error fall when a code has 3 bits, not 2?",
    choices=(
        Choice("less than 2 times", 0, 2),
        Choice("2 to 3 times", 2, 3),
        Choice("3 to 5 times", 3, 5),
        Choice("more than 5 times", 5, math.inf),
    ),
    truth=truth,
    said=said,
    control="Bits per coordinate",
    settings=settings,
    start=lambda _: str(BITS[0]),
    figure=figure,
    finding=finding,
    why=(
        "Centred and rotated, a coordinate is spread like one of a random unit vector, whatever "
        "the model and the text, so Lloyd's and Max's best levels are computed once and fitted to "
        "no data. One more bit halves the cells, which would quarter the error if the cells were "
        "small; with so few of them it does a little less."
    ),
)
