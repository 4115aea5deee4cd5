"""Lesson 2: a few channels hold most of a key; rotation spreads them over all."""

import math

import numpy as np

from turbo_kv.figures.chart import Axis, Plot, legend
from turbo_kv.measure.lesson_report import Coordinates
from turbo_kv.ui import numbers, wording
from turbo_kv.ui.language import say
from turbo_kv.ui.lessons import ticks
from turbo_kv.ui.lessons.lesson import Choice, Lesson, Scene
from turbo_kv.ui.tables import table

TOP = 3
ON, OFF = "on", "off"


def question(scene: Scene) -> str:
    width = len(scene.measured.rotation.plain.energy)
    return say("lesson.rotate.question", width=width)


def truth(scene: Scene) -> float:
    return scene.measured.rotation.plain.top(TOP)


def said(scene: Scene) -> str:
    plain = scene.measured.rotation.plain
    return say(
        "lesson.rotate.said",
        share=numbers.percent(plain.top(TOP)),
        equal=numbers.percent(TOP / len(plain.energy)),
    )


def settings(_: Scene) -> list[tuple[str, str]]:
    return [(wording.value(value), value) for value in (OFF, ON)]


def finding(scene: Scene, setting: str) -> str:
    plain, rotated = scene.measured.rotation.plain, scene.measured.rotation.rotated
    if setting == OFF:
        return say(
            "lesson.rotate.off",
            top=TOP,
            width=len(plain.energy),
            share=numbers.percent(plain.top(TOP)),
            largest=f"{plain.largest:.2f}",
        )
    return say(
        "lesson.rotate.on",
        top=TOP,
        rotated=numbers.percent(rotated.top(TOP)),
        share=numbers.percent(plain.top(TOP)),
        change=_change(plain.largest, rotated.largest),
    )


def _change(before: float, after: float) -> str:
    verb = "falls" if after < before - 0.005 else "rises" if after > before + 0.005 else "stays"
    return say(f"lesson.rotate.{verb}", before=f"{before:.2f}", after=f"{after:.2f}")


def figure(scene: Scene, setting: str, alt: str) -> str:
    measured = scene.measured.rotation
    both = {OFF: measured.plain, ON: measured.rotated}
    shown, kind = both[setting], "packed" if setting == ON else "broken"
    width = len(shown.energy)
    name = say("lesson.rotate.channel_on" if setting == ON else "lesson.rotate.channel_off")
    most = 1.05 * max(c.energy.max() for c in both.values())
    energy = Plot(
        Axis(name, 0, width, ticks.upto(width)),
        Axis(say("lesson.rotate.share"), 0, most, ticks.upto(most, "{:.0%}")),
    )
    peak = 1.05 * max(*(c.density.max() for c in both.values()), measured.theory.max())
    spread = Plot(
        Axis(say("lesson.axis.coordinate"), -1, 1, ticks.around(1)),
        Axis(say("lesson.axis.density"), 0, peak, ticks.upto(peak)),
    )
    channels, edges = np.arange(width), measured.edges
    by_channel = [
        energy.bars(channels + 0.1, channels + 0.9, shown.energy, kind),
        energy.level(1 / width, "theory"),
    ]
    by_size = [
        spread.bars(edges[:-1], edges[1:], shown.density, kind),
        spread.line((edges[1:] + edges[:-1]) / 2, measured.theory, "theory"),
    ]
    return (
        f'<div class="charts">{energy.html(say("lesson.rotate.energy"), alt, by_channel)}'
        f"{spread.html(say('lesson.rotate.all'), alt, by_size)}</div>"
        + legend(
            ("bars", kind, say(f"lesson.rotate.keys_{setting}")),
            ("line", "theory", say("lesson.rotate.theory")),
        )
        + _table(both)
    )


def _table(both: dict[str, Coordinates]) -> str:
    width = len(both[OFF].energy)
    return table(
        say("lesson.rotate.table"),
        [say(f"lesson.rotate.column.{name}") for name in ("count", "off", "on", "equal")],
        [
            (
                str(count),
                *(numbers.percent(c.top(count)) for c in both.values()),
                numbers.percent(count / width),
            )
            for count in (1, 3, 8, width // 2)
        ],
    )


LESSON = Lesson(
    key="rotate",
    setup=lambda _: say("lesson.rotate.setup"),
    question=question,
    choices=(
        Choice(0, 0.1),
        Choice(0.1, 0.3),
        Choice(0.3, 0.5),
        Choice(0.5, math.inf),
    ),
    truth=truth,
    said=said,
    settings=settings,
    start=lambda _: OFF,
    figure=figure,
    finding=finding,
)
