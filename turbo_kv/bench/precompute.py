"""Makes the result that the page shows before anybody pressed Run: the tiny model, both centrings.

Measures the default text as anybody would, stamps it, and keeps the attention maps and the lessons
of the head that suffers most. Knows the file's form, not the page.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from turbo_kv.bench.stamp import stamp
from turbo_kv.measure.analyze import measure, prepare
from turbo_kv.measure.attention_map import attention_map
from turbo_kv.measure.lesson import lessons
from turbo_kv.measure.report import Report, Request
from turbo_kv.models.progress import Progress, silent

NAME = "precomputed-tiny"
DIGITS = 6
FACTS = ("first_key", "mass", "total_variation", "top1")
TOKENS = ("query_tokens", "key_tokens")


def precompute(folder: Path, progress: Progress = silent) -> tuple[Path, ...]:
    """Write reports and lessons (JSON) and maps (npz, fp16) into `folder`; returns the paths.

    The first report is the default configuration, the second the same without centring.
    """
    request = Request()
    prepared = prepare(request, progress)
    reports: list[Report] = []
    for config in (request.config, replace(request.config, centering="off")):
        *_, report = measure(prepared, config)
        reports.append(report)
    layer, head = _worst(reports)
    maps = [attention_map(prepared, report.config, layer, head) for report in reports]

    folder.mkdir(parents=True, exist_ok=True)
    data, arrays = folder / f"{NAME}.json", folder / f"{NAME}.npz"
    facts = [{name: getattr(m, name) for name in FACTS} for m in maps]
    stored = {
        "stamp": stamp(),
        "head": [layer, head],
        "maps": facts,
        "tokens": {name: getattr(maps[0], name) for name in TOKENS},
        "reports": [report.to_dict() for report in reports],
    }
    data.write_text(json.dumps(rounded(stored), indent=1) + "\n")
    packed = {f"packed_{index}": m.packed.astype(np.float16) for index, m in enumerate(maps)}
    np.savez_compressed(arrays, exact=maps[0].exact.astype(np.float16), **packed)
    taught = folder / f"{NAME}-lessons.json"
    numbers = {"stamp": stored["stamp"], "lessons": lessons(prepared, layer, head).to_dict()}
    taught.write_text(json.dumps(rounded(numbers)) + "\n")
    return data, arrays, taught


def _worst(reports: list[Report]) -> tuple[int, int]:
    """(layer, head) of the largest attention KL in any report."""
    hurt = max((report.grid("attention_kl") for report in reports), key=np.max)
    layer, head = np.unravel_index(hurt.argmax(), hurt.shape)
    return int(layer), int(head)


def rounded(value: object) -> object:
    """The same JSON with its fractions cut to the digits that matter."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list | tuple) else value
