"""The command line: flags in, JSON out; everything for human eyes goes to stderr.

A command imports what it needs when it runs, so that `--help` answers at once. A command that
takes Quantization flags names each as a parameter and reads them all with `_config`.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from turbo_kv.quant import config as choices
from turbo_kv.quant.config import QuantConfig

if TYPE_CHECKING:
    from turbo_kv.measure.planner import Plan
    from turbo_kv.measure.report import Report
    from turbo_kv.models.progress import Progress

MIB, GIB = 2**20, 2**30
DEFAULT = QuantConfig()

console = Console(stderr=True)


class _Commands(TyperGroup):
    """Tells what the user can mend (ValueError) in one line, with exit status 2."""

    def invoke(self, ctx: typer.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ValueError as error:
            console.print("[red]error:[/red]", end=" ")
            console.print(str(error), markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(2) from error


app = typer.Typer(
    cls=_Commands,
    help="3-bit TurboQuant KV caches for Qwen2.5: quantize, generate, measure.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_Model = Annotated[str, typer.Option("--model", help="tiny, a Qwen2.5 name, or a local folder")]
_Context = Annotated[int, typer.Option("--context", help="tokens to read, at most")]
_Text = Annotated[
    Path | None,
    typer.Option("--text", help="a UTF-8 file; without one, Python's own language reference"),
]
_Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps")]
_Json = Annotated[
    str | None, typer.Option("--json", metavar="PATH|-", help="write the result; - for stdout")
]


def _quantization(flag: str, text: str) -> Any:
    return typer.Option(flag, help=text, rich_help_panel="Quantization")


_Bits = Annotated[int, _quantization("--bits", "bits per value: 2, 3 or 4")]
_Rotation = Annotated[bool, _quantization("--rotation/--no-rotation", "spread outliers first")]
_Qjl = Annotated[bool, _quantization("--qjl/--no-qjl", "add a 1-bit sketch of the residual")]
_QjlBudget = Annotated[
    choices.QjlBudget, _quantization("--qjl-budget", "where the sketch's bit comes from")
]
_QjlOn = Annotated[choices.QjlOn, _quantization("--qjl-on", "what is sketched")]
_Centering = Annotated[
    choices.Centering, _quantization("--centering", "the constant part to subtract")
]
_Codebook = Annotated[choices.Codebook, _quantization("--codebook", "the scalar quantizer")]
_Seed = Annotated[int, _quantization("--seed", "of the rotation and the sketch")]


@app.command()
def analyze(
    ctx: typer.Context,
    *,
    model: _Model = "tiny",
    context: _Context = 2048,
    text: _Text = None,
    device: _Device = "auto",
    bits: _Bits = DEFAULT.bits,
    rotation: _Rotation = DEFAULT.rotation,
    qjl: _Qjl = DEFAULT.qjl,
    qjl_budget: _QjlBudget = DEFAULT.qjl_budget,
    qjl_on: _QjlOn = DEFAULT.qjl_on,
    centering: _Centering = DEFAULT.centering,
    codebook: _Codebook = DEFAULT.codebook,
    seed: _Seed = DEFAULT.seed,
    destination: _Json = None,
) -> None:
    """Capture a model's KV cache, store it in few bits, and measure what attention loses."""
    from turbo_kv.measure.analyze import analyze

    with _progress() as progress:
        report = analyze(
            model, _read(text), context, device, config=_config(ctx), progress=progress
        )
    _show_report(report)
    _write(report.to_dict(), destination)


@app.command()
def plan(
    ctx: typer.Context,
    *,
    context: _Context = 8192,
    memory: Annotated[float, typer.Option(help="the device's memory, GiB")] = 24.0,
    batch: Annotated[int, typer.Option(help="texts at once")] = 1,
    bits: _Bits = DEFAULT.bits,
    qjl: _Qjl = DEFAULT.qjl,
    qjl_budget: _QjlBudget = DEFAULT.qjl_budget,
    qjl_on: _QjlOn = DEFAULT.qjl_on,
    centering: _Centering = DEFAULT.centering,
    destination: _Json = None,
) -> None:
    """Tell what every Qwen2.5's cache takes at a context, and the longest one that fits."""
    from turbo_kv.measure.planner import plan
    from turbo_kv.models.catalog import CATALOG

    config = _config(ctx)
    sizes = [
        card for card in CATALOG.values() if card.repo_id and not card.name.endswith("-Instruct")
    ]
    plans = [plan(card, context, batch, round(memory * GIB), config) for card in sizes]
    _show_plans(plans, memory)
    result = {"memory_bytes": round(memory * GIB), "config": config.to_dict()}
    _write(result | {"models": [one.to_dict() for one in plans]}, destination)


@app.command()
def train_tiny(
    corpus: Annotated[Path, typer.Option(help="a folder of .txt and .txt.xz files")],
    out: Annotated[
        Path | None, typer.Option(help="a folder; without one, the bundled model is replaced")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cuda, or cpu for a smoke test")] = "auto",
    destination: _Json = None,
) -> None:
    """Train the bundled model: on a GPU in minutes, on a CPU only to see that it runs."""
    from turbo_kv.models import tiny
    from turbo_kv.models.device import choose_device
    from turbo_kv.models.train_tiny import train_tiny

    if out is None and choose_device(device).type != "cuda":
        raise ValueError(
            "without a CUDA device this is a smoke run, and it would replace the bundled model; "
            "say with --out where its result belongs"
        )
    with _progress() as progress:
        report = train_tiny(corpus, out or tiny.FOLDER, device=device, progress=progress)
    _write(asdict(report), destination)


def _config(ctx: typer.Context) -> QuantConfig:
    """The Quantization flags of a command; those it does not take keep their defaults."""
    given = {f.name: ctx.params[f.name] for f in fields(QuantConfig) if f.name in ctx.params}
    return QuantConfig(**given)


def _read(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}; give a text file") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text; convert it first") from error


def _write(result: dict[str, Any], destination: str | None) -> None:
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
def _progress() -> Iterator["Progress"]:
    """A status line on a terminal, nothing elsewhere."""
    with console.status("Starting") as status:
        yield lambda fraction, text: status.update(f"{fraction:4.0%}  {text}")


def _show_report(report: "Report") -> None:
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


def _show_plans(plans: "list[Plan]", memory: float) -> None:
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


if __name__ == "__main__":
    app()
