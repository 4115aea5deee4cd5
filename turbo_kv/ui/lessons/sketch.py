"""Lesson 5: QJL takes the bias out of a logit and puts noise in; attention decides."""

import math

import numpy as np

from turbo_kv.figures.chart import Axis, Plot, legend, table
from turbo_kv.measure.lesson_report import Estimate
from turbo_kv.ui import findings, numbers
from turbo_kv.ui.lessons import ticks
from turbo_kv.ui.lessons.lesson import Choice, Lesson, Scene

NAMES = {"off": "off", "on-top": "on top", "inside": "inside"}
OFF = "off"


def _ways(scene: Scene) -> dict[str, Estimate]:
    return {way.sketch: way for way in scene.measured.estimates.ways}


def truth(scene: Scene) -> float:
    ways = _ways(scene)
    return ways["on-top"].kl / max(ways[OFF].kl, 1e-9)


def said(scene: Scene) -> str:
    before, after = (_ways(scene)[name] for name in (OFF, "on-top"))
    return (
        f"KL {numbers.nats(before.kl)} → {numbers.nats(after.kl)} nats, while the bits per value "
        f"go from {before.bits_per_value:.2f} to {after.bits_per_value:.2f}."
    )


def settings(_: Scene) -> list[tuple[str, str]]:
    return [
        ("off", "off"),
        ("one more bit, on top", "on-top"),
        ("one of the three bits, inside", "inside"),
    ]


def finding(scene: Scene, setting: str) -> str:
    ways = _ways(scene)
    way, without = ways[setting], ways[OFF]
    if setting == OFF:
        return (
            f"Without QJL logits follow the truth with slope {way.slope:.3f}, spread "
            f"{way.spread:.2f} nats over {scene.measured.estimates.seeds} seeds and mean error "
            f"{_signed(way.mean_error)}; attention KL is {numbers.nats(way.kl)} nats at "
            f"{way.bits_per_value:.2f} bits per value."
        )
    return (
        f"With QJL {NAMES[setting]} attention is {_verdict(without.kl, way.kl)}: KL "
        f"{numbers.nats(without.kl)} → {numbers.nats(way.kl)} nats, at {way.bits_per_value:.2f} "
        f"bits per value. The slope goes {without.slope:.3f} → {way.slope:.3f}, the spread "
        f"{without.spread:.2f} → {way.spread:.2f} nats; mean error {_signed(way.mean_error)}."
    )


def _verdict(before: float, after: float) -> str:
    factor = after / max(before, 1e-9)
    if factor >= findings.ALIKE:
        return f"{numbers.times(factor)} times further from exact"
    if factor <= 1 / findings.ALIKE:
        return f"{numbers.times(1 / factor)} times closer to exact"
    return "as far from exact"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def figure(scene: Scene, setting: str, alt: str) -> str:
    measured, ways = scene.measured.estimates, _ways(scene)
    way = ways[setting]
    reach = 1.15 * float(np.abs([measured.truth, *(w.estimate for w in ways.values())]).max())
    around = ticks.around(float(f"{0.8 * reach:.1g}"))
    plot = Plot(
        Axis("true logit, nats", -reach, reach, around),
        Axis("estimate, nats", -reach, reach, around),
    )
    ends = np.array([-reach, reach])
    kind = "packed" if setting == OFF else "broken"
    scatter = plot.html(
        "Logits from stored keys, one seed",
        alt,
        [plot.dots(measured.truth, way.estimate, f"small {kind}"), plot.line(ends, ends, "theory")],
    )
    bars = "".join(
        _bars(title, unit, [value(w) for w in ways.values()], list(ways).index(setting), alt)
        for title, unit, value in (
            ("Bias", "distance of the slope from 1", lambda w: abs(1 - w.slope)),
            ("Spread", "nats, over seeds", lambda w: w.spread),
            ("Attention KL", "nats", lambda w: w.kl),
        )
    )
    return (
        f'<div class="charts">{scatter}<div class="charts short">{bars}</div></div>'
        + legend(
            ("dots", kind, f"a query and a key, QJL {NAMES[setting]}"),
            ("line", "theory", "estimate equals truth"),
        )
        + table(
            "Estimates with and without QJL",
            ("QJL", "Slope", "Mean error", "Spread", "KL, nats", "Bits per value"),
            [
                (
                    NAMES[name],
                    f"{w.slope:.3f}",
                    _signed(w.mean_error),
                    f"{w.spread:.3f}",
                    numbers.nats(w.kl),
                    f"{w.bits_per_value:.2f}",
                )
                for name, w in ways.items()
            ],
        )
    )


def _bars(title: str, unit: str, values: list[float], chosen: int, alt: str) -> str:
    most = 1.15 * max(values)
    at = np.arange(len(values))
    plot = Plot(
        Axis("", 0, len(values), [(a + 0.5, name) for a, name in zip(at, NAMES.values())]),
        Axis(unit, 0, most, ticks.upto(most, steps=2)),
    )
    shapes = [
        plot.bars(at[[one]] + 0.2, at[[one]] + 0.8, np.array([values[one]]), kind)
        for one in at
        for kind in [("packed" if one == 0 else "broken") + ("" if one == chosen else " faint")]
    ]
    return plot.html(title, alt, shapes)


LESSON = Lesson(
    name="QJL",
    title="Is unbiased better?",
    setup=lambda _: "3 bits, rotated, centred by the mean; products without the constant part.",
    question=lambda _: (
        "QJL spends one more bit to make every logit right on average. What does this head's "
        "attention make of it?"
    ),
    choices=(
        Choice("it comes closer to exact", 0, 1 / findings.ALIKE),
        Choice("no difference", 1 / findings.ALIKE, findings.ALIKE),
        Choice("it moves further away", findings.ALIKE, math.inf),
    ),
    truth=truth,
    said=said,
    control="QJL",
    settings=settings,
    start=lambda _: OFF,
    figure=figure,
    finding=finding,
    why=(
        "QJL keeps the signs of random projections of what the code left over: right on average "
        "over many draws, but a cache makes one draw, and that adds noise to every logit. Softmax "
        "is exponential and pays for noise at every token, while the bias that QJL removes only "
        "made all logits a little flatter."
    ),
)
