"""Measures every method on the text the page opens with: the points of its tab Compare.

Knows the file's form, not the page.
"""

from typing import Any

from turbo_kv.bench.precompute import rounded
from turbo_kv.bench.stamp import stamp
from turbo_kv.measure.analyze import measure, prepare
from turbo_kv.measure.methods import methods
from turbo_kv.measure.point import Point
from turbo_kv.measure.report import Request
from turbo_kv.models.progress import Progress, silent

NAME = "precomputed-methods"


def method_points(progress: Progress = silent) -> dict[str, Any]:
    """A point for each of `methods()` on the bundled model; stamped."""
    prepared = prepare(Request())
    chosen = methods()
    points = []
    for name, config in chosen.items():
        progress(len(points) / len(chosen), f"Measuring {name}")
        *_, report = measure(prepared, config)
        points.append(Point.of(report).to_dict())
    facts = report.to_dict()
    return {
        "stamp": stamp(),
        "model": facts["model"],
        "text": facts["text"],
        "tokens": report.tokens,
        "points": rounded(points),
    }
