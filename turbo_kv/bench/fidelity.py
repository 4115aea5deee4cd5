"""The frontier: bits per value against KL, for every method, width, text and context.

One pass over a text serves every context: predictions made from n tokens, c/2 <= n < c, are those
at context c. All caches of a group advance in lock-step with one exact cache. Caches that keep
their newest tokens exact go in smaller chunks, so that no more of them are exact at a prediction
than in decoding. Models run in fp32 on every device, so that nothing but codes differs. Groups
that a result file already has are not measured again at the same commit. Does not know how a cache
stores.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Cache, PreTrainedModel

from turbo_kv.bench.baselines import backends
from turbo_kv.bench.contenders import GROUPS, SEEDED, Group
from turbo_kv.bench.live import CHUNK, TEXTS
from turbo_kv.bench.lock_step import between, lock_step
from turbo_kv.bench.stamp import stamp
from turbo_kv.measure.facts import longest_text, model_facts, text_facts
from turbo_kv.measure.next_token import Predictions
from turbo_kv.measure.quality import Quality, batch_means_stderr
from turbo_kv.models.load import load
from turbo_kv.models.progress import Progress, silent
from turbo_kv.models.text import DEFAULT_SOURCE, prepare

CONTEXTS = (1024, 2048, 4096, 8192)
TWIN_CONTEXTS = (1024, 2048)
TWIN = "fidelity-twin.json"


@dataclass(frozen=True)
class Point:
    """One method at one context.

    bits_per_value: of storage when the context is full, or at the fuller of the last two chunks.
    ratio, ratio_stderr: KL over that of the group's first method, from the same predictions; None
    if that one loses nothing.
    """

    context: int
    bits_per_value: float
    quality: Quality
    ratio: float | None
    ratio_stderr: float | None


@dataclass(frozen=True)
class Row:
    """One method, or why it could not be tried. commit, machine: where its group was measured."""

    group: str
    method: str
    ours: bool
    commit: str | None
    machine: str
    points: tuple[Point, ...] = ()
    missing: str | None = None


def write(folder: Path, progress: Progress = silent) -> list[Path]:
    """Measure every text, keeping each group when it is done; the first text with other seeds."""
    paths = []
    for short, source in TEXTS.items():
        path = folder / f"fidelity-{short}.json"
        groups = (*GROUPS, *(SEEDED if source == DEFAULT_SOURCE else ()))
        for result in run(source, groups=groups, known=_known(path), progress=progress):
            path.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        paths.append(path)
    return paths


def write_twin(model: Path, folder: Path, progress: Progress = silent) -> Path:
    """Measure a model that nothing was tuned on, a folder that `train-tiny --twin` wrote."""
    path = folder / TWIN
    known = _known(path, TWIN_CONTEXTS)
    for result in run(model=str(model), contexts=TWIN_CONTEXTS, known=known, progress=progress):
        path.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path


def _known(path: Path, contexts: Sequence[int] = CONTEXTS) -> list[dict[str, Any]]:
    """Rows that a file has from this very commit, at these contexts."""
    if not path.exists():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    commit = stamp()["commit"]
    same = found["contexts"] == list(contexts)
    return [row for row in found["rows"] if same and row["commit"] == commit]


def run(
    source: str = DEFAULT_SOURCE,
    *,
    model: str = "tiny",
    contexts: Sequence[int] = CONTEXTS,
    groups: Sequence[Group] = GROUPS,
    known: Sequence[dict[str, Any]] = (),
    progress: Progress = silent,
) -> Iterator[dict[str, Any]]:
    """Measure the groups of which `known` has no row; yields the stamped result after each."""
    loaded = load(model, dtype="fp32")
    prepared = prepare(loaded.tokenizer, None, contexts[-1], longest_text(loaded), source)
    tokens = prepared.tokens.to(loaded.device)
    facts = model_facts(loaded)
    values = 2 * facts.layers * facts.kv_heads * facts.head_dim
    names = {group.name for group in groups}
    rows = [row for row in known if row["group"] in names]
    result = {
        "stamp": stamp(),
        "model": asdict(facts),
        "text": asdict(text_facts(prepared)),
        "tokens": tokens.shape[1],
        "contexts": list(contexts),
        "backends": backends(),
    }
    for index, group in enumerate(groups):
        if any(row["group"] == group.name for row in rows):
            continue

        def tell(done: float, index: int = index, group: Group = group) -> None:
            progress((index + done) / len(groups), f"{source}: {group.name}")

        measured = _measure(
            group, loaded.model, tokens, values=values, contexts=contexts, tell=tell
        )
        rows += [asdict(row) for row in measured]
        yield result | {"rows": list(rows)}


def _measure(
    group: Group,
    model: PreTrainedModel,
    tokens: torch.Tensor,
    *,
    values: int,
    contexts: Sequence[int],
    tell: Callable[[float], None],
) -> list[Row]:
    caches: dict[str, Cache] = {}
    missing: dict[str, str] = {}
    made_with = stamp()
    where = {"commit": made_with["commit"], "machine": made_with["gpu"] or "CPU"}
    for method in group.methods:
        try:
            caches[method.name] = method.new(model)
        except ImportError as error:
            missing[method.name] = " ".join(str(error).split())
    made, bits = lock_step(model, tokens, caches, values=values, chunk=group.chunk, tell=tell)
    first = next(iter(made.values()), None)
    rows = []
    for method in group.methods:
        if method.name in missing:
            why = missing[method.name]
            rows.append(Row(group.name, method.name, method.ours, **where, missing=why))
            continue
        points = [
            _point(context, bits[method.name], made[method.name], first)
            for context in contexts
            if context <= tokens.shape[1]
        ]
        rows.append(Row(group.name, method.name, method.ours, **where, points=tuple(points)))
    return rows


def _point(context: int, bits: Mapping[int, float], made: Predictions, first: Predictions) -> Point:
    seen = context // 2 - 1, context - 1  # position p predicts from p + 1 tokens
    here, there = between(made, *seen), between(first, *seen)
    ratio, ratio_stderr = kl_ratio(here, there) if there.kl.any() else (None, None)
    return Point(
        context=context,
        bits_per_value=max(size for held, size in bits.items() if 0 <= context - held <= CHUNK),
        quality=Quality.of(here),
        ratio=ratio,
        ratio_stderr=ratio_stderr,
    )


def kl_ratio(made: Predictions, other: Predictions) -> tuple[float, float]:
    """Mean KL over another's on the same predictions, and its standard error (batch means)."""
    ours, theirs = made.kl.double(), other.kl.double()
    ratio = float(ours.mean() / theirs.mean())
    return ratio, batch_means_stderr((ours - ratio * theirs) / theirs.mean())
