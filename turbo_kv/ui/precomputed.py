"""The finished result that is on screen before anybody pressed Run: reports and maps from files.

`python -m turbo_kv bench precompute` measures and writes them; nothing here measures.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from turbo_kv.measure.lesson_report import Lessons
from turbo_kv.measure.report import Report, Request
from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui.engine import Map
from turbo_kv.ui.session import Session, first

RESULTS = Path(__file__).parents[2] / "assets" / "results"
NAME = "precomputed-tiny"


@dataclass(frozen=True)
class Precomputed:
    """The session every visitor starts with, and its maps by (config, layer, head).

    lessons: on the head selected at first. stamp: when and with what all this was made.
    """

    session: Session
    maps: dict[tuple[QuantConfig, int, int], Map]
    lessons: Lessons
    stamp: dict[str, Any]


def read(folder: Path = RESULTS) -> Precomputed:
    """The stored result. Raises FileNotFoundError when it was never made."""
    data = json.loads((folder / f"{NAME}.json").read_text())
    reports = [Report.from_dict(report) for report in data["reports"]]
    shown = reports[0]
    request = Request(model=shown.model.name, context=shown.tokens, config=shown.config)
    session = first(request, reports, number=0, precomputed=True)
    tokens = {name: tuple(texts) for name, texts in data["tokens"].items()}
    with np.load(folder / f"{NAME}.npz") as arrays:
        exact = arrays["exact"].astype(np.float32)
        maps = {
            (report.config, *session.selected): Map(
                exact, arrays[f"packed_{index}"].astype(np.float32), **facts, **tokens
            )
            for index, (report, facts) in enumerate(zip(reports, data["maps"]))
        }
    taught = json.loads((folder / f"{NAME}-lessons.json").read_text())
    lessons = Lessons.from_dict(taught["lessons"])
    return Precomputed(session, maps, lessons, data["stamp"])
