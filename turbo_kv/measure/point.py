"""One method's result in few numbers: what it costs, what it damages, layer by layer.

Plain data made from a report; its JSON form is what the page keeps and hands out.
"""

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from io import StringIO
from typing import Any

from turbo_kv.measure.methods import name
from turbo_kv.measure.report import Report
from turbo_kv.quant.config import QuantConfig


@dataclass(frozen=True)
class Point:
    """Means over layers and heads, `logit_correlation` the worst head's; and per layer.

    bits_per_value counts everything stored. attention_kl in nats, exact against packed.
    """

    config: QuantConfig
    bits_per_value: float
    attention_kl: float
    key_cosine: float
    value_cosine: float
    logit_correlation: float
    top1: float
    layer_kl: tuple[float, ...]
    layer_key_cosine: tuple[float, ...]
    layer_value_cosine: tuple[float, ...]

    @property
    def name(self) -> str:
        return name(self.config)

    @classmethod
    def of(cls, report: Report) -> "Point":
        """The point of a complete report."""
        kl, keys, values = (
            report.grid(field) for field in ("attention_kl", "key_cosine", "value_cosine")
        )
        return cls(
            config=report.config,
            bits_per_value=report.bits_per_value,
            attention_kl=float(kl.mean()),
            key_cosine=float(keys.mean()),
            value_cosine=float(values.mean()),
            logit_correlation=float(report.grid("logit_correlation").min()),
            top1=float(report.grid("top1").mean()),
            layer_kl=tuple(kl.mean(axis=1).tolist()),
            layer_key_cosine=tuple(keys.mean(axis=1).tolist()),
            layer_value_cosine=tuple(values.mean(axis=1).tolist()),
        )

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name} | asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Point":
        """Rebuild what `to_dict` wrote. Raises KeyError when a part is missing."""
        given = {field: data[field] for field in cls.__dataclass_fields__}
        per_layer = {
            field: tuple(value) for field, value in given.items() if isinstance(value, list)
        }
        return cls(**given | per_layer | {"config": QuantConfig(**data["config"])})


FIGURES = (
    "bits_per_value",
    "attention_kl",
    "key_cosine",
    "value_cosine",
    "logit_correlation",
    "top1",
)


def to_csv(points: Iterable[Point]) -> str:
    """A row for each method."""
    file = StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["method", *FIGURES])
    for point in points:
        table.writerow([point.name, *(f"{getattr(point, field):.6g}" for field in FIGURES)])
    return file.getvalue()


def front(points: Iterable[Point]) -> list[Point]:
    """Those that no other beats in size without losing in attention KL, smallest first."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda each: (each.bits_per_value, each.attention_kl)):
        if not kept or point.attention_kl < kept[-1].attention_kl:
            kept.append(point)
    return kept
