"""Lesson 4: the constant part of Qwen2.5's keys, which cosine admires and attention ignores."""

import math

import numpy as np

from turbo_kv.figures.chart import Axis, Plot, legend
from turbo_kv.measure.report import Report
from turbo_kv.ui import findings, numbers, wording
from turbo_kv.ui.language import say
from turbo_kv.ui.lessons import ticks
from turbo_kv.ui.lessons.lesson import Choice, Lesson, Scene
from turbo_kv.ui.session import Session
from turbo_kv.ui.tables import table

OFF = "off"


def pair(session: Session) -> dict[str, Report]:
    """Two reports that differ in centring alone, by centring, "off" first.

    Every run has measured such a pair; the one with the setting shown is taken where it exists.
    """
    by_rest: dict[tuple, dict[str, Report]] = {}
    for config, report in session.runs.items():
        rest = tuple(value for name, value in config.to_dict().items() if name != "centering")
        by_rest.setdefault(rest, {})[config.centering] = report
    pairs = [found for found in by_rest.values() if OFF in found and len(found) > 1]
    found = next((p for p in pairs if session.shown in p.values()), pairs[0])
    other = next(name for name in found if name != OFF)
    return {OFF: found[OFF], other: found[other]}


def _hurt(scene: Scene) -> tuple[Report, int]:
    plain = pair(scene.session)[OFF]
    return plain, int(plain.grid("attention_kl").mean(axis=1).argmax())


def _rest(scene: Scene) -> str:
    return wording.setting(pair(scene.session)[OFF].config, ["bits", "rotation", "qjl"])


def question(scene: Scene) -> str:
    plain, layer = _hurt(scene)
    cosine = numbers.cosine(plain.layers[layer].key_cosine.mean())
    return say("lesson.centre.question", layer=layer, cosine=cosine)


def truth(scene: Scene) -> float:
    plain, layer = _hurt(scene)
    return float(plain.layers[layer].attention_kl.mean())


def said(scene: Scene) -> str:
    plain, layer = _hurt(scene)
    kept = float(plain.layers[layer].top1.mean())
    return say("lesson.centre.said", kl=numbers.nats(truth(scene)), kept=numbers.percent(kept))


def settings(scene: Scene) -> list[tuple[str, str]]:
    return [(wording.value(name), name) for name in pair(scene.session)]


def finding(scene: Scene, setting: str) -> str:
    both = pair(scene.session)
    norms = scene.measured.norms
    _, layer = _hurt(scene)
    if setting == OFF:
        share = norms.constant[layer] / norms.content[layer]
        return say(
            "lesson.centre.off",
            layer=layer,
            share=f"{share:.0f}",
            cosine=numbers.cosine(both[OFF].layers[layer].key_cosine.mean()),
            kl=numbers.nats(truth(scene)),
        )
    before, after = (report.layers[layer] for report in both.values())
    gain = before.attention_kl.mean() / max(after.attention_kl.mean(), 1e-9)
    return say(
        "lesson.centre.on",
        layer=layer,
        gain=numbers.times(gain),
        kl_off=numbers.nats(before.attention_kl.mean()),
        kl_on=numbers.nats(after.attention_kl.mean()),
        cosine_off=numbers.cosine(before.key_cosine.mean()),
        cosine_on=numbers.cosine(after.key_cosine.mean()),
    )


def figure(scene: Scene, setting: str, alt: str) -> str:
    both = pair(scene.session)
    norms = scene.measured.norms
    count = len(norms.constant)
    across, across_last = (
        Axis(name, -0.5, count - 0.5, ticks.layers(count))
        for name in ("", say("lesson.axis.layer"))
    )
    at = np.arange(count)
    longest = 1.1 * float(norms.constant.max())
    lengths = Plot(
        across, Axis(say("lesson.centre.norms"), 0, longest, ticks.upto(longest, steps=3))
    )
    parts = [
        lengths.bars(at - 0.4, at, norms.constant, "exact"),
        lengths.bars(at, at + 0.4, norms.content, "packed"),
    ]
    cosine = Plot(across, Axis(say("lesson.centre.cosine"), 0, 1, ticks.upto(1, steps=2)))
    logarithm = Axis(say("lesson.axis.kl"), 1e-3, 10, ticks.decades(-3, 1), log=True)
    kl = Plot(across_last, logarithm)
    by_cosine, by_kl = [], []
    for name, report in sorted(both.items(), key=lambda item: item[0] == setting):
        kind = ("broken" if name == OFF else "packed") + ("" if name == setting else " faint")
        for plot, field, shapes in (
            (cosine, "key_cosine", by_cosine),
            (kl, "attention_kl", by_kl),
        ):
            ys = report.grid(field).mean(axis=1)
            shapes += [plot.line(at, ys, kind), plot.dots(at, ys, kind)]
    other = next(name for name in both if name != OFF)
    centred = {name: wording.setting(r.config, ["centering"]) for name, r in both.items()}
    return (
        '<div class="charts stacked">'
        + lengths.html(say("lesson.centre.keys", kv_head=scene.measured.kv_head), alt, parts)
        + cosine.html(say("lesson.centre.cosines"), alt, by_cosine)
        + kl.html(say("lesson.centre.kls"), alt, by_kl)
        + "</div>"
        + legend(
            ("bars", "exact", say("lesson.centre.constant")),
            ("bars", "packed", say("lesson.centre.rest")),
            ("line", "broken", centred[OFF]),
            ("line", "packed", centred[other]),
        )
        + _table(scene, both)
    )


def _table(scene: Scene, both: dict[str, Report]) -> str:
    norms = scene.measured.norms
    names = [wording.setting(report.config, ["centering"]) for report in both.values()]
    return table(
        say("lesson.centre.table"),
        (
            say("metric.layer"),
            say("lesson.centre.constant"),
            say("lesson.centre.rest"),
            *(say("lesson.centre.cosine_of", name=name) for name in names),
            *(say("lesson.centre.kl_of", name=name) for name in names),
        ),
        [
            (
                str(layer),
                f"{norms.constant[layer]:.1f}",
                f"{norms.content[layer]:.1f}",
                *(numbers.cosine(r.layers[layer].key_cosine.mean()) for r in both.values()),
                *(numbers.nats(r.layers[layer].attention_kl.mean()) for r in both.values()),
            )
            for layer in range(len(norms.constant))
        ],
    )


LESSON = Lesson(
    key="centre",
    setup=lambda scene: say("lesson.centre.setup", setting=_rest(scene)),
    question=question,
    choices=(
        Choice(0, findings.BROKEN),
        Choice(findings.BROKEN, 1),
        Choice(1, math.inf),
    ),
    truth=truth,
    said=said,
    settings=settings,
    start=lambda _: OFF,
    figure=figure,
    finding=finding,
)
