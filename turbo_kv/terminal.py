"""What a command takes from files and shows to people: texts in; JSON, tables and status out.

Results go to stdout or a file; everything for human eyes goes to stderr. Knows no command.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

if TYPE_CHECKING:
    from turbo_kv.measure.planner import Plan
    from turbo_kv.measure.report import Report
    from turbo_kv.measure.transcript import Transcript
    from turbo_kv.models.progress import Progress

MIB = 2**20
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # a model may write escape codes

console = Console(stderr=True)


def read_text(path: Path | None) -> str | None:
    """The UTF-8 text of a file, None without one; ValueError for a file that holds none."""
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}; give a text file") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text; convert it first") from error


def write(result: dict[str, Any], destination: str | None) -> None:
    """The result with its stamp, as JSON, to a file or to stdout; nowhere without a destination."""
    if destination is None:
        return
    from turbo_kv.bench.stamp import stamp

    text = json.dumps(result | {"stamp": stamp()}, indent=1, allow_nan=False)
    if destination == "-":
        print(text)
        return
    try:
        Path(destination).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ValueError(f"cannot write {destination}: {error.strerror}") from error


@contextmanager
def status() -> Iterator["Progress"]:
    """A status line on a terminal, nothing elsewhere."""
    with console.status("Starting") as line:
        yield lambda fraction, text: line.update(f"{fraction:4.0%}  {text}")


@contextmanager
def bars() -> Iterator["Progress"]:
    """A bar, for work of minutes, with the time so far; nothing but on a terminal."""
    columns = (BarColumn(), TextColumn("{task.percentage:3.0f}%"), TimeElapsedColumn())
    said = TextColumn("{task.description}")
    with Bar(*columns, said, console=console, disable=not console.is_terminal) as shown:
        task = shown.add_task("Starting", total=1)
        yield lambda fraction, text: shown.update(task, completed=fraction, description=text)


def show_report(report: "Report") -> None:
    """A table of layers, and the finding in one sentence."""
    model = report.model
    table = Table(
        title=f"{model.name} on {model.device} ({model.dtype}), {report.tokens:,} tokens of "
        f"{report.text.name}; averages over heads",
        caption=report.path,
    )
    columns = {
        "layer": None,
        "key cos.": "key_cosine",
        "value cos.": "value_cosine",
        "attn. KL": "attention_kl",
        "logit corr.": "logit_correlation",
        "top-1": "top1",
        "output err.": "output_relative_error",
    }
    for name in columns:
        table.add_column(name, justify="right")
    for layer in report.layers:
        figures = [getattr(layer, name).mean() for name in columns.values() if name]
        table.add_row(str(layer.layer), *(f"{figure:.4f}" for figure in figures))
    console.print(table)
    for note in report.text.notes:
        console.print(note, highlight=False)
    divergence = report.grid("attention_kl")
    layer, head = divmod(int(divergence.argmax()), divergence.shape[1])
    console.print(
        f"Keys and values shrink {report.ratio:.2f}×, from {report.before_bytes / MIB:.2f} to "
        f"{report.after.total / MIB:.2f} MiB ({report.bits_per_value:.2f} bits per value); "
        f"attention KL is {divergence.mean():.4f} nats on average, {divergence.max():.3f} at "
        f"worst (layer {layer}, head {head}), over the last {report.queries} positions.",
        highlight=False,
    )


def show_transcript(transcript: "Transcript") -> None:
    """What each stream said, and the finding in a sentence."""
    from turbo_kv.measure.transcript import STREAMS

    for name in STREAMS:
        console.rule(name, align="left")
        text = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", transcript.said(name))
        console.print(text, markup=False, highlight=False)
    console.rule()
    console.print(transcript.summary, highlight=False)
    for note in transcript.text.notes:
        console.print(note, highlight=False)


def show_plans(plans: "list[Plan]", memory: float) -> None:
    """A table of models on a device with `memory` GiB."""
    first = plans[0]
    table = Table(
        title=f"Keys and values of {first.batch} × {first.tokens:,} tokens in MiB, and the longest "
        f"context beside the weights in {memory:g} GiB"
    )
    table.add_column("model", no_wrap=True)
    for name in ("weights", "bf16", "packed", "ratio", "longest, bf16", "longest, packed"):
        table.add_column(name, justify="right")
    for each in plans:
        table.add_row(
            each.card.name,
            f"{each.card.weights_bytes / MIB:,.0f}",
            f"{each.before_bytes / MIB:,.2f}",
            f"{each.after.total / MIB:,.2f}",
            f"{each.ratio:.2f}×",
            f"{each.longest_before:,}",
            f"{each.longest_after:,}",
        )
    console.print(table)
