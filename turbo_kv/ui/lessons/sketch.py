"""Lesson 5: QJL takes the bias out of a logit and puts noise in; attention decides."""

import math

import numpy as np

from turbo_kv.figures.chart import Axis, Plot, legend
from turbo_kv.measure.lesson_report import Estimate
from turbo_kv.ui import findings, numbers, wording
from turbo_kv.ui.language import say
from turbo_kv.ui.lessons import ticks
from turbo_kv.ui.lessons.lesson import Choice, Lesson, Scene
from turbo_kv.ui.tables import table

OFF = "off"
WAYS = (OFF, "on-top", "inside")
_COLUMNS = (
    *("lesson.sketch.slope", "lesson.sketch.mean_error", "lesson.sketch.spread.title"),
    *("lesson.kl_nats", "metric.bits_per_value"),
)


def _ways(scene: Scene) -> dict[str, Estimate]:
    return {way.sketch: way for way in scene.measured.estimates.ways}


def truth(scene: Scene) -> float:
    ways = _ways(scene)
    return ways["on-top"].kl / max(ways[OFF].kl, 1e-9)


def said(scene: Scene) -> str:
    before, after = (_ways(scene)[name] for name in (OFF, "on-top"))
    return say(
        "lesson.sketch.said",
        kl=f"{numbers.nats(before.kl)} → {numbers.nats(after.kl)}",
        before=f"{before.bits_per_value:.2f}",
        after=f"{after.bits_per_value:.2f}",
    )


def settings(_: Scene) -> list[tuple[str, str]]:
    return [(say(f"lesson.sketch.setting.{way}"), way) for way in WAYS]


def finding(scene: Scene, setting: str) -> str:
    ways = _ways(scene)
    way, without = ways[setting], ways[OFF]
    if setting == OFF:
        return say(
            "lesson.sketch.off",
            slope=f"{way.slope:.3f}",
            spread=f"{way.spread:.2f}",
            seeds=scene.measured.estimates.seeds,
            error=_signed(way.mean_error),
            kl=numbers.nats(way.kl),
            bits=f"{way.bits_per_value:.2f}",
        )
    return say(
        "lesson.sketch.on",
        way=wording.value(setting),
        verdict=_verdict(without.kl, way.kl),
        kl=f"{numbers.nats(without.kl)} → {numbers.nats(way.kl)}",
        bits=f"{way.bits_per_value:.2f}",
        slope=f"{without.slope:.3f} → {way.slope:.3f}",
        spread=f"{without.spread:.2f} → {way.spread:.2f}",
        error=_signed(way.mean_error),
    )


def _verdict(before: float, after: float) -> str:
    factor = after / max(before, 1e-9)
    if factor >= findings.ALIKE:
        return say("lesson.sketch.further", factor=numbers.times(factor))
    if factor <= 1 / findings.ALIKE:
        return say("lesson.sketch.closer", factor=numbers.times(1 / factor))
    return say("lesson.sketch.alike")


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def figure(scene: Scene, setting: str, alt: str) -> str:
    measured, ways = scene.measured.estimates, _ways(scene)
    way = ways[setting]
    reach = 1.15 * float(np.abs([measured.truth, *(w.estimate for w in ways.values())]).max())
    around = ticks.around(float(f"{0.8 * reach:.1g}"))
    plot = Plot(
        Axis(say("lesson.sketch.true"), -reach, reach, around),
        Axis(say("lesson.sketch.estimate"), -reach, reach, around),
    )
    ends = np.array([-reach, reach])
    kind = "packed" if setting == OFF else "broken"
    scatter = plot.html(
        say("lesson.sketch.logits"),
        alt,
        [plot.dots(measured.truth, way.estimate, f"small {kind}"), plot.line(ends, ends, "theory")],
    )
    bars = "".join(
        _bars(name, [value(w) for w in ways.values()], list(ways).index(setting), alt)
        for name, value in (
            ("bias", lambda w: abs(1 - w.slope)),
            ("spread", lambda w: w.spread),
            ("kl", lambda w: w.kl),
        )
    )
    return (
        f'<div class="charts">{scatter}<div class="charts short">{bars}</div></div>'
        + legend(
            ("dots", kind, say("lesson.sketch.pair", way=wording.value(setting))),
            ("line", "theory", say("lesson.sketch.equal")),
        )
        + table(
            say("lesson.sketch.table"),
            ["QJL", *map(say, _COLUMNS)],
            [
                (
                    wording.value(name),
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


def _bars(name: str, values: list[float], chosen: int, alt: str) -> str:
    most = 1.15 * max(values)
    at = np.arange(len(values))
    plot = Plot(
        Axis("", 0, len(values), [(a + 0.5, wording.value(way)) for a, way in zip(at, WAYS)]),
        Axis(say(f"lesson.sketch.{name}.unit"), 0, most, ticks.upto(most, steps=2)),
    )
    shapes = [
        plot.bars(at[[one]] + 0.2, at[[one]] + 0.8, np.array([values[one]]), kind)
        for one in at
        for kind in [("packed" if one == 0 else "broken") + ("" if one == chosen else " faint")]
    ]
    return plot.html(say(f"lesson.sketch.{name}.title"), alt, shapes)


LESSON = Lesson(
    key="sketch",
    setup=lambda _: say("lesson.sketch.setup"),
    question=lambda _: say("lesson.sketch.question"),
    choices=(
        Choice(0, 1 / findings.ALIKE),
        Choice(1 / findings.ALIKE, findings.ALIKE),
        Choice(findings.ALIKE, math.inf),
    ),
    truth=truth,
    said=said,
    settings=settings,
    start=lambda _: OFF,
    figure=figure,
    finding=finding,
)
