"""Lesson 4: the constant part of Qwen2.5's keys, which cosine admires and attention ignores."""

import math

import numpy as np

from turbo_kv.figures.chart import Axis, Plot, legend, table
from turbo_kv.measure.report import Report
from turbo_kv.ui import findings, numbers, wording
from turbo_kv.ui.lessons import ticks
from turbo_kv.ui.lessons.lesson import Choice, Lesson, Scene
from turbo_kv.ui.session import Session

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
    return (
        f"Without centring, the restored keys of layer {layer} have a cosine of {cosine} with the "
        "true ones. How far does that layer's attention drift?"
    )


def truth(scene: Scene) -> float:
    plain, layer = _hurt(scene)
    return float(plain.layers[layer].attention_kl.mean())


def said(scene: Scene) -> str:
    plain, layer = _hurt(scene)
    kept = float(plain.layers[layer].top1.mean())
    return (
        f"by {numbers.nats(truth(scene))} nats; only {numbers.percent(kept)} of its queries still "
        "look first at the same token."
    )


def settings(scene: Scene) -> list[tuple[str, str]]:
    return [(name, name) for name in pair(scene.session)]


def finding(scene: Scene, setting: str) -> str:
    both = pair(scene.session)
    norms = scene.measured.norms
    _, layer = _hurt(scene)
    if setting == OFF:
        share = norms.constant[layer] / norms.content[layer]
        return (
            f"In layer {layer} the constant part of a key is {share:.0f} times as long as the "
            f"rest. Its cosine is {numbers.cosine(both[OFF].layers[layer].key_cosine.mean())}, its "
            f"attention KL {numbers.nats(truth(scene))} nats."
        )
    before, after = (report.layers[layer] for report in both.values())
    gain = before.attention_kl.mean() / max(after.attention_kl.mean(), 1e-9)
    return (
        f"Centred, attention in layer {layer} comes {numbers.times(gain)} times closer to exact, "
        f"KL {numbers.nats(before.attention_kl.mean())} → {numbers.nats(after.attention_kl.mean())}"
        f" nats, while the cosine goes from {numbers.cosine(before.key_cosine.mean())} to "
        f"{numbers.cosine(after.key_cosine.mean())}."
    )


def figure(scene: Scene, setting: str, alt: str) -> str:
    both = pair(scene.session)
    norms = scene.measured.norms
    count = len(norms.constant)
    across, across_last = (
        Axis(name, -0.5, count - 0.5, ticks.layers(count)) for name in ("", "layer")
    )
    at = np.arange(count)
    longest = 1.1 * float(norms.constant.max())
    lengths = Plot(across, Axis("norm of a key's parts", 0, longest, ticks.upto(longest, steps=3)))
    parts = [
        lengths.bars(at - 0.4, at, norms.constant, "exact"),
        lengths.bars(at, at + 0.4, norms.content, "packed"),
    ]
    cosine = Plot(across, Axis("cosine", 0, 1, ticks.upto(1, steps=2)))
    kl = Plot(across_last, Axis("KL, nats, logarithmic", 1e-3, 10, ticks.decades(-3, 1), log=True))
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
    return (
        '<div class="charts stacked">'
        + lengths.html(f"Keys of KV head {scene.measured.kv_head}", alt, parts)
        + cosine.html("Cosine of restored keys, mean of heads", alt, by_cosine)
        + kl.html("Attention KL, mean of heads", alt, by_kl)
        + "</div>"
        + legend(
            ("bars", "exact", "constant part"),
            ("bars", "packed", "what is left"),
            ("line", "broken", "centring off"),
            ("line", "packed", f"centring {other}"),
        )
        + _table(scene, both)
    )


def _table(scene: Scene, both: dict[str, Report]) -> str:
    norms = scene.measured.norms
    names = [wording.setting(report.config, ["centering"]) for report in both.values()]
    return table(
        "Keys and attention by layer",
        (
            "Layer",
            "Constant part",
            "What is left",
            *(f"Cosine, {name}" for name in names),
            *(f"KL, {name}" for name in names),
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
    name="Centre",
    title="What cosine hides",
    setup=lambda scene: f"{_rest(scene)}; with centring and without.",
    question=question,
    choices=(
        Choice(f"hardly: KL below {findings.BROKEN} nats", 0, findings.BROKEN),
        Choice(f"noticeably: {findings.BROKEN} to 1 nat", findings.BROKEN, 1),
        Choice("it reads other tokens: more than 1 nat", 1, math.inf),
    ),
    truth=truth,
    said=said,
    control="Centring",
    settings=settings,
    start=lambda _: OFF,
    figure=figure,
    finding=finding,
    why=(
        "The key projection's bias adds the same long vector to every key, and the cosine is "
        "mostly a comparison of that vector with itself, while attention lives on the small rest "
        "that the code then has no levels for. Centring takes the constant off before coding and "
        "adds it back exactly, for one stored vector per head."
    ),
)
