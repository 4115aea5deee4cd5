"""Lesson 2: a few channels hold most of a key; rotation spreads them over all."""

import math

import numpy as np

from turbo_kv.figures.chart import Axis, Plot, legend, table
from turbo_kv.measure.lesson_report import Coordinates
from turbo_kv.ui import numbers
from turbo_kv.ui.lessons import ticks
from turbo_kv.ui.lessons.lesson import Choice, Lesson, Scene

TOP = 3
ON, OFF = "on", "off"


def question(scene: Scene) -> str:
    width = len(scene.measured.rotation.plain.energy)
    return f"A key has {width} channels here. How much of its energy do the strongest three hold?"


def truth(scene: Scene) -> float:
    return scene.measured.rotation.plain.top(TOP)


def said(scene: Scene) -> str:
    plain = scene.measured.rotation.plain
    return (
        f"{numbers.percent(plain.top(TOP))}, where equal shares would give them "
        f"{numbers.percent(TOP / len(plain.energy))}."
    )


def settings(_: Scene) -> list[tuple[str, str]]:
    return [("off", OFF), ("on", ON)]


def finding(scene: Scene, setting: str) -> str:
    plain, rotated = scene.measured.rotation.plain, scene.measured.rotation.rotated
    if setting == OFF:
        return (
            f"{TOP} of {len(plain.energy)} channels hold {numbers.percent(plain.top(TOP))} of the "
            f"energy, and one coordinate alone reaches {plain.largest:.2f} of its key's norm."
        )
    change = _change(plain.largest, rotated.largest)
    return (
        f"Rotated, the strongest {TOP} channels hold {numbers.percent(rotated.top(TOP))} instead "
        f"of {numbers.percent(plain.top(TOP))}; the largest coordinate {change}."
    )


def _change(before: float, after: float) -> str:
    verb = "falls" if after < before - 0.005 else "rises" if after > before + 0.005 else "stays"
    return f"{verb} from {before:.2f} to {after:.2f} of its key's norm"


def figure(scene: Scene, setting: str, alt: str) -> str:
    measured = scene.measured.rotation
    both = {OFF: measured.plain, ON: measured.rotated}
    shown, kind = both[setting], "packed" if setting == ON else "broken"
    width = len(shown.energy)
    name = "channel, rotated" if setting == ON else "channel of the key"
    most = 1.05 * max(c.energy.max() for c in both.values())
    energy = Plot(
        Axis(name, 0, width, ticks.upto(width)),
        Axis("share of the energy", 0, most, ticks.upto(most, "{:.0%}")),
    )
    peak = 1.05 * max(*(c.density.max() for c in both.values()), measured.theory.max())
    spread = Plot(
        Axis("coordinate, as a share of its key's norm", -1, 1, ticks.around(1)),
        Axis("density", 0, peak, ticks.upto(peak)),
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
        f'<div class="charts">{energy.html("Energy by channel", alt, by_channel)}'
        f"{spread.html('All coordinates', alt, by_size)}</div>"
        + legend(
            ("bars", kind, "rotated" if setting == ON else "as the model made them"),
            ("line", "theory", "equal shares; density of a random unit vector's coordinate"),
        )
        + _table(both)
    )


def _table(both: dict[str, Coordinates]) -> str:
    width = len(both[OFF].energy)
    return table(
        "Energy of the strongest channels",
        ("Strongest channels", "Before rotation", "Rotated", "Equal shares"),
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
    name="Rotate",
    title="Which channels use up the code",
    setup=lambda _: "The keys as the model made them, not centred.",
    question=question,
    choices=(
        Choice("less than 10%", 0, 0.1),
        Choice("10 to 30%", 0.1, 0.3),
        Choice("30 to 50%", 0.3, 0.5),
        Choice("more than half", 0.5, math.inf),
    ),
    truth=truth,
    said=said,
    control="Rotation",
    settings=settings,
    start=lambda _: OFF,
    figure=figure,
    finding=finding,
    why=(
        "One code serves every channel, so a few loud ones set its range and leave few levels for "
        "all the others. Random signs and a Walsh–Hadamard transform mix every channel into each "
        "of the others and lose nothing: turned back, the key is the same."
    ),
)
