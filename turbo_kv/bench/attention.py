"""Decode attention on packed pages against every attention on bf16 that this machine has.

Correctness first: a way that fails its check against the fp32 specification raises, and nothing is
kept. On a GPU a graph that attends to the caches of several layers is replayed, so that none lies
in the L2 cache; rotation, mean and combination are inside. Without a GPU the same question is asked
of the CPU's paths. Random codes: a speed, never a model's quality.
"""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import torch

from turbo_kv.bench.attention_ways import TOLERANCE, Shape
from turbo_kv.bench.stamp import stamp
from turbo_kv.models.progress import Progress, silent


def run(shapes: Iterable[Shape] | None = None, progress: Progress = silent) -> dict[str, Any]:
    """Time every way on every shape; the stamped result. Raises ArithmeticError on a wrong one."""
    if torch.cuda.is_available():
        from turbo_kv.bench import attention_gpu as device
    else:
        from turbo_kv.bench import attention_cpu as device
    shapes = tuple(device.SHAPES if shapes is None else shapes)
    facts = device.facts()
    rows = []
    for index, shape in enumerate(shapes):
        progress(index / len(shapes), f"Attending to {shape.batch} × {shape.tokens:,} tokens")
        rows.append(asdict(shape) | {"ways": [asdict(way) for way in device.ways(shape)]})
    return {"stamp": stamp(), **facts, "tolerance": TOLERANCE, "rows": rows}


def result_name(result: dict[str, Any]) -> str:
    """The name of a result's file: attention-h200, say, or attention-cpu."""
    words = result["device"].lower().split()
    return "attention-" + next((word for word in words if word.strip("abghl").isdigit()), words[0])
