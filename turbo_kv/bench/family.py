"""The family table: every model at every context, one file of rows a machine.

A row is written as soon as it is measured, so that a run that ends early goes on where it stopped:
rows of the same code are kept. What cannot be had or does not fit is a row that says why, and is
tried again. Files of other machines lie beside ours and are never touched. Knows nothing of how a
row is measured.
"""

import json
import os
import platform
import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch

from turbo_kv.bench.evaluation_text import EvaluationText
from turbo_kv.bench.family_row import NOTHING, Job, measure_row
from turbo_kv.bench.process import alone
from turbo_kv.bench.shapes import PREFIX, shape_config
from turbo_kv.bench.stamp import stamp
from turbo_kv.models.catalog import card
from turbo_kv.models.device import choose_device
from turbo_kv.models.progress import Progress, silent
from turbo_kv.quant.config import QuantConfig

MODELS = ("tiny", "Qwen2.5-0.5B", "Qwen2.5-1.5B", "Qwen2.5-3B", "Qwen2.5-7B", "shape:Qwen2.5-0.5B")
CONTEXTS = (2048, 8192)
FOLDER = "family"


def run(
    folder: Path,
    text: EvaluationText,
    *,
    models: Sequence[str] = MODELS,
    contexts: Sequence[int] = CONTEXTS,
    device: str = "auto",
    machine: str | None = None,
    progress: Progress = silent,
) -> Path:
    """Measure what the file of this machine lacks; returns the file, in `folder`/family.

    machine: its name in tables; by default the GPU's, or the processor's and its cores.
    Raises ValueError for models that nobody knows and a device that is not there.
    """
    target = choose_device(device).type
    for model in models:
        _check(model)
    machine = machine or machine_name(target)
    path = folder / FOLDER / f"{re.sub(r'[^a-z0-9]+', '-', machine.lower()).strip('-')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    made_with = stamp()
    jobs = [
        Job(model, context, target, text, QuantConfig())
        for model, context in product(models, contexts)
    ]
    for index, job in enumerate(jobs):
        rows_before = [row for row in rows if _is_of(row, job)]
        if any(_is_finished(row, made_with) for row in rows_before):
            continue

        def tell(done: float, said: str, index: int = index, job: Job = job) -> None:
            where = f"{job.model}, {job.context:,} tokens"
            progress((index + done) / len(jobs), f"{where}: {said}")

        figures = _figures(job, tell)
        row = {**job.identity, "machine": machine, **figures, "stamp": made_with}
        rows = [*(row for row in rows if not _is_of(row, job)), row]
        _write(path, {"machine": machine, "rows": rows})
    return path


def read(folder: Path) -> list[dict[str, Any]]:
    """The rows of every machine's file in `folder`/family, in order of the files' names."""
    files = sorted((folder / FOLDER).glob("*.json"))
    return [row for file in files for row in json.loads(file.read_text(encoding="utf-8"))["rows"]]


def machine_name(device: str) -> str:
    """The GPU by its name, or the kind of processor and the number of its cores."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    name = f"{platform.machine()}, {os.cpu_count()} cores"
    return f"{name}, {device}" if device != "cpu" else name


def _check(model: str) -> None:
    if model.startswith(PREFIX):
        shape_config(card(model.removeprefix(PREFIX)))
    elif not os.path.isdir(os.path.expanduser(model)):
        card(model)


def _figures(job: Job, progress: Progress) -> dict[str, Any]:
    try:
        return {**alone(measure_row, job, progress=progress), "missing": None}
    except ValueError as error:
        # A published row does not tell where its author lives.
        return {**NOTHING, "missing": str(error).replace(str(Path.home()), "~")}


def _is_of(row: dict[str, Any], job: Job) -> bool:
    identity = job.identity
    same = all(row[name] == identity[name] for name in identity if name != "config")
    # An older row may lack a choice that came later, and was measured with its default.
    return same and QuantConfig(**row["config"]) == job.config


def _is_finished(row: dict[str, Any], made_with: dict[str, Any]) -> bool:
    """Measured, and by the same code; a result file that changed meanwhile makes no difference."""
    same = all(
        str(row["stamp"][name]).rstrip("+") == str(made_with[name]).rstrip("+")
        for name in ("turbo_kv", "commit")
    )
    return row["missing"] is None and same


def _write(path: Path, result: dict[str, Any]) -> None:
    """Replace the file in one step: whoever ends the run finds the old one or the new one."""
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    unfinished.replace(path)
