"""Lesson 1: what a cache costs beside the weights, and where packing moves the wall.

Bytes per token are those measured on the text that was read, taken further in a straight line.
The sizes of other models are published facts.
"""

import math
from dataclasses import dataclass

from turbo_kv.figures.chart import Axis, Plot, legend, table
from turbo_kv.measure.planner import exact_bytes, packed_bytes
from turbo_kv.measure.report import Report
from turbo_kv.models.catalog import CATALOG, ModelCard
from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui import numbers
from turbo_kv.ui.lessons import ticks
from turbo_kv.ui.lessons.lesson import Choice, Lesson, Scene

LENGTHS = (512, 2_048, 8_192, 32_768, 131_072)
BF16_BYTES = 2
EXAMPLE = "Qwen2.5-7B"
EXAMPLE_LENGTH = 32_768


@dataclass(frozen=True)
class Cost:
    """Bytes in bf16: weights, one text's cache as it is, and the same packed."""

    name: str
    weights: int
    exact: float
    packed: float

    @property
    def wall(self) -> float:
        """Texts whose exact cache weighs as much as the weights."""
        return self.weights / self.exact

    @property
    def wall_packed(self) -> float:
        """The same for a packed cache."""
        return self.weights / self.packed


def outweighs(wall: float) -> int:
    """The text, counted from one, with which a cache comes to weigh more."""
    return math.floor(wall) + 1


def of_report(report: Report, length: int) -> Cost:
    """The cost of one text of `length` tokens, from what a measured one took."""
    per_value = {"float32": 4}.get(report.model.dtype, 2)
    after = report.after
    return Cost(
        report.model.name,
        weights=report.model.weights_bytes * BF16_BYTES // per_value,
        exact=report.before_bytes * length / report.tokens,
        packed=(after.total - after.means) * length / report.tokens + after.means,
    )


def of_card(card: ModelCard, length: int) -> Cost:
    """The cost of one text of `length` tokens, from published facts."""
    config = QuantConfig()
    return Cost(
        card.name,
        card.weights_bytes,
        exact_bytes(card, length, 1),
        packed_bytes(card, length, 1, config).total,
    )


def question(scene: Scene) -> str:
    report = scene.session.shown
    return (
        f"Many texts of {report.tokens:,} tokens are held in memory at once. With which one do "
        f"their keys and values come to weigh more than the model, {report.model.name}, itself?"
    )


def truth(scene: Scene) -> float:
    report = scene.session.shown
    return outweighs(of_report(report, report.tokens).wall)


def said(scene: Scene) -> str:
    report = scene.session.shown
    one = of_report(report, report.tokens)
    return (
        f"with {_nth(outweighs(one.wall))}: the weights take {numbers.mib(one.weights)} MiB in "
        f"bf16, one text {numbers.mib(one.exact)}."
    )


def settings(scene: Scene) -> list[tuple[str, str]]:
    report = scene.session.shown
    known = CATALOG.get(report.model.name)
    longest = known.max_position_embeddings if known else max(report.tokens, LENGTHS[1])
    lengths = sorted({report.tokens, *(n for n in LENGTHS if n <= longest)})
    return [(f"{length:,}", str(length)) for length in lengths]


def finding(scene: Scene, setting: str) -> str:
    one = of_report(scene.session.shown, int(setting))
    other = of_card(CATALOG[EXAMPLE], EXAMPLE_LENGTH)
    return (
        f"At {int(setting):,} tokens a text, the cache outweighs the model with "
        f"{_nth(outweighs(one.wall))}; packed, with {_nth(outweighs(one.wall_packed))}. "
        f"For {EXAMPLE} and texts of {EXAMPLE_LENGTH:,} tokens it is {_nth(outweighs(other.wall))} "
        f"and {_nth(outweighs(other.wall_packed))}."
    )


def figure(scene: Scene, setting: str, alt: str) -> str:
    length = int(setting)
    one = of_report(scene.session.shown, length)
    texts, most = 1.25 * one.wall_packed, 1.35 * one.weights / numbers.MIB
    weights = one.weights / numbers.MIB
    plot = Plot(
        Axis(f"texts of {length:,} tokens held at once", 0, texts, ticks.upto(texts)),
        Axis("MiB", 0, most, ticks.upto(most)),
    )
    sizes = (one.exact / numbers.MIB, "exact"), (one.packed / numbers.MIB, "packed")
    shapes = [
        plot.level(weights, "theory"),
        *(_growth(plot, per_text, kind) for per_text, kind in sizes),
        plot.dots([one.wall], [weights], "exact"),
        plot.dots([one.wall_packed], [weights], "packed"),
    ]
    labels = [
        plot.label(wall, weights, _nth(outweighs(wall)), "above")
        for wall in (one.wall, one.wall_packed)
    ]
    return (
        plot.html("Where the cache comes to outweigh the model", alt, shapes, labels)
        + legend(
            ("line", "theory", "the model's weights in bf16"),
            ("line", "exact", "cache in bf16"),
            ("line", "packed", f"cache packed to {_bits(scene)} bits per value"),
        )
        + _table(one, length)
    )


def _growth(plot: Plot, per_text: float, kind: str) -> str:
    """A cache from nothing to the edge of the picture."""
    texts = min(plot.x.high, plot.y.high / per_text)
    return plot.line([0, texts], [0, texts * per_text], kind)


def _table(one: Cost, length: int) -> str:
    costs = [one, *(of_card(card, length) for card in CATALOG.values() if _listed(card, one))]
    return table(
        f"Texts of {length:,} tokens until the cache outweighs the weights",
        ("Model", "Weights, MiB", "One text, MiB", "Packed, MiB", "Outweighs with", "Packed"),
        [
            (
                cost.name,
                numbers.mib(cost.weights),
                numbers.mib(cost.exact),
                numbers.mib(cost.packed),
                f"text {outweighs(cost.wall):,}",
                f"text {outweighs(cost.wall_packed):,}",
            )
            for cost in costs
        ],
    )


def _listed(card: ModelCard, shown: Cost) -> bool:
    return card.repo_id is not None and "Instruct" not in card.name and card.name != shown.name


def _bits(scene: Scene) -> str:
    return f"{scene.session.shown.bits_per_value:.2f}"


def _nth(text: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(text % 10 if text % 100 not in (11, 12, 13) else 0)
    return f"the {text:,}{ending or 'th'}"


LESSON = Lesson(
    name="Cost",
    title="What a cache costs",
    setup=lambda scene: f"Stored as in the tab Run, at {_bits(scene)} bits per value.",
    question=question,
    choices=(
        Choice("the 1st or 2nd", 0, 3),
        Choice("the 3rd to 9th", 3, 10),
        Choice("the 10th to 50th", 10, 51),
        Choice("a later one", 51, math.inf),
    ),
    truth=truth,
    said=said,
    control="Tokens in a text",
    settings=settings,
    start=lambda scene: str(scene.session.shown.tokens),
    figure=figure,
    finding=finding,
    why=(
        "Every token leaves a key and a value in every layer, and they stay for as long as its "
        "text is read or continued. All texts share the weights, but each needs a cache of its "
        "own: long texts and many readers pay for it."
    ),
)
