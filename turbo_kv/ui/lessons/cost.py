"""Lesson 1: what a cache costs beside the weights, and where packing moves the wall.

Bytes per token are those measured on the text that was read, taken further in a straight line.
The sizes of other models are published facts.
"""

import math
from dataclasses import dataclass

from turbo_kv.figures.chart import Axis, Plot, legend
from turbo_kv.measure.planner import exact_bytes, packed_bytes
from turbo_kv.measure.report import Report
from turbo_kv.models.catalog import CATALOG, ModelCard
from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui import numbers
from turbo_kv.ui.language import say
from turbo_kv.ui.lessons import ticks
from turbo_kv.ui.lessons.lesson import Choice, Lesson, Scene
from turbo_kv.ui.tables import table

LENGTHS = (512, 2_048, 8_192, 32_768, 131_072)
BF16_BYTES = 2
EXAMPLE = "Qwen2.5-7B"
_COLUMNS = ("weights", "text", "packed", "nth", "packed_nth")
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
    return say("lesson.cost.question", tokens=f"{report.tokens:,}", model=report.model.name)


def truth(scene: Scene) -> float:
    report = scene.session.shown
    return outweighs(of_report(report, report.tokens).wall)


def said(scene: Scene) -> str:
    report = scene.session.shown
    one = of_report(report, report.tokens)
    return say(
        "lesson.cost.said",
        nth=_nth(outweighs(one.wall)),
        weights=numbers.mib(one.weights),
        text=numbers.mib(one.exact),
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
    return say(
        "lesson.cost.finding",
        tokens=f"{int(setting):,}",
        nth=_nth(outweighs(one.wall)),
        packed=_nth(outweighs(one.wall_packed)),
        example=EXAMPLE,
        length=f"{EXAMPLE_LENGTH:,}",
        example_nth=_nth(outweighs(other.wall)),
        example_packed=_nth(outweighs(other.wall_packed)),
    )


def figure(scene: Scene, setting: str, alt: str) -> str:
    length = int(setting)
    one = of_report(scene.session.shown, length)
    texts, most = 1.25 * one.wall_packed, 1.35 * one.weights / numbers.MIB
    weights = one.weights / numbers.MIB
    plot = Plot(
        Axis(say("lesson.cost.texts", tokens=f"{length:,}"), 0, texts, ticks.upto(texts)),
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
        plot.html(say("lesson.cost.plot"), alt, shapes, labels)
        + legend(
            ("line", "theory", say("lesson.cost.weights")),
            ("line", "exact", say("lesson.cost.exact")),
            ("line", "packed", say("lesson.cost.packed", bits=_bits(scene))),
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
        say("lesson.cost.table", tokens=f"{length:,}"),
        [say("metric.model"), *(say(f"lesson.cost.column.{name}") for name in _COLUMNS)],
        [
            (
                cost.name,
                numbers.mib(cost.weights),
                numbers.mib(cost.exact),
                numbers.mib(cost.packed),
                say("lesson.cost.text", number=f"{outweighs(cost.wall):,}"),
                say("lesson.cost.text", number=f"{outweighs(cost.wall_packed):,}"),
            )
            for cost in costs
        ],
    )


def _listed(card: ModelCard, shown: Cost) -> bool:
    return card.repo_id is not None and "Instruct" not in card.name and card.name != shown.name


def _bits(scene: Scene) -> str:
    return f"{scene.session.shown.bits_per_value:.2f}"


def _nth(text: int) -> str:
    last = text % 10 if text % 100 not in (11, 12, 13) else 0
    return say(f"nth.{last if last in (1, 2, 3) else 'other'}", number=f"{text:,}")


LESSON = Lesson(
    key="cost",
    setup=lambda scene: say("lesson.cost.setup", bits=_bits(scene)),
    question=question,
    choices=(
        Choice(0, 3),
        Choice(3, 10),
        Choice(10, 51),
        Choice(51, math.inf),
    ),
    truth=truth,
    said=said,
    settings=settings,
    start=lambda scene: str(scene.session.shown.tokens),
    figure=figure,
    finding=finding,
)
