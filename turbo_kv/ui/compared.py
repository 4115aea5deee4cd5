"""The methods' points that are on screen before anybody pressed Compare, and those of a session.

`python -m turbo_kv bench precompute` measures and writes the former; nothing here measures.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turbo_kv.measure.point import Point
from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui.precomputed import RESULTS
from turbo_kv.ui.session import Session

NAME = "precomputed-methods"


@dataclass(frozen=True)
class Compared:
    """Points on the stored reading, by configuration, and what they were made with."""

    points: dict[QuantConfig, Point]
    stamp: dict[str, Any]


def read(folder: Path = RESULTS) -> Compared:
    """The stored points. Raises FileNotFoundError when they were never made."""
    data = json.loads((folder / f"{NAME}.json").read_text(encoding="utf-8"))
    points = [Point.from_dict(point) for point in data["points"]]
    return Compared({point.config: point for point in points}, data["stamp"])


def points(session: Session, stored: Compared) -> dict[QuantConfig, Point]:
    """Everything measured on what the session read; the stored points while it read nothing."""
    runs = {config: Point.of(report) for config, report in session.runs.items()}
    return (stored.points if session.precomputed else {}) | session.points | runs
