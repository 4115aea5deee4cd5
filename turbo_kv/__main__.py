"""The command line: flags in, JSON out; everything for human eyes goes to stderr.

A command imports what it needs when it runs, so that `--help` answers at once. A command that
takes Quantization flags names each as a parameter and reads them all with `_config`.
"""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from turbo_kv.bench_commands import bench
from turbo_kv.quant import config as choices
from turbo_kv.quant.config import QuantConfig
from turbo_kv.terminal import (
    console,
    read_text,
    show_plans,
    show_report,
    show_transcript,
    status,
    write,
)

DEFAULT = QuantConfig()


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

app.add_typer(bench, name="bench")

_Model = Annotated[str, typer.Option("--model", help="tiny, a Qwen2.5 name, or a local folder")]
_Context = Annotated[int, typer.Option("--context", help="tokens to read, at most")]
_Text = Annotated[
    Path | None,
    typer.Option("--text", help="a UTF-8 file; without one, Python's own language reference"),
]
_Source = Annotated[
    str, typer.Option("--source", help="without --text: one of the built-in texts, by its name")
]
_Device = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda, mps, or split over several")
]
_Dtype = Annotated[
    str, typer.Option("--dtype", help="auto, bf16, fp16, fp32; int8 or int4 weights")
]
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
_Codebook = Annotated[choices.Codebook, _quantization("--codebook", "how coordinates become codes")]
_ScaleBits = Annotated[int, _quantization("--scale-bits", "of each vector's scale: 16 or 8")]
_Seed = Annotated[int, _quantization("--seed", "of the rotation and the sketch")]


@app.command()
def analyze(
    ctx: typer.Context,
    *,
    model: _Model = "tiny",
    context: _Context = 2048,
    text: _Text = None,
    source: _Source = "Python language reference",
    device: _Device = "auto",
    dtype: _Dtype = "auto",
    bits: _Bits = DEFAULT.bits,
    rotation: _Rotation = DEFAULT.rotation,
    qjl: _Qjl = DEFAULT.qjl,
    qjl_budget: _QjlBudget = DEFAULT.qjl_budget,
    qjl_on: _QjlOn = DEFAULT.qjl_on,
    centering: _Centering = DEFAULT.centering,
    codebook: _Codebook = DEFAULT.codebook,
    scale_bits: _ScaleBits = DEFAULT.scale_bits,
    seed: _Seed = DEFAULT.seed,
    destination: _Json = None,
) -> None:
    """Capture a model's KV cache, store it in few bits, and measure what attention loses."""
    from turbo_kv.measure.analyze import analyze

    with status() as progress:
        asked = {"config": _config(ctx), "source": source, "dtype": dtype, "progress": progress}
        report = analyze(model, read_text(text), context, device, **asked)
    show_report(report)
    write(report.to_dict(), destination)


@app.command()
def perplexity(
    ctx: typer.Context,
    *,
    model: _Model = "tiny",
    context: _Context = 2048,
    text: _Text = None,
    device: _Device = "auto",
    dtype: _Dtype = "auto",
    tensor_parallel: Annotated[
        bool, typer.Option("--tensor-parallel", help="shard heads over torchrun's processes")
    ] = False,
    chunk: Annotated[
        int, typer.Option(help="tokens a forward; 1 decodes as generation does")
    ] = 512,
    exact_window: Annotated[
        int, typer.Option(help="newest tokens that are not coded, and the longest chunk then")
    ] = 0,
    recall: Annotated[bool, typer.Option(help="test recall at a distance as well")] = True,
    bits: _Bits = DEFAULT.bits,
    rotation: _Rotation = DEFAULT.rotation,
    qjl: _Qjl = DEFAULT.qjl,
    qjl_budget: _QjlBudget = DEFAULT.qjl_budget,
    qjl_on: _QjlOn = DEFAULT.qjl_on,
    centering: _Centering = DEFAULT.centering,
    codebook: _Codebook = DEFAULT.codebook,
    scale_bits: _ScaleBits = DEFAULT.scale_bits,
    seed: _Seed = DEFAULT.seed,
    destination: _Json = None,
) -> None:
    """Predict a text through the live packed cache and exactly, and measure what is lost."""
    from turbo_kv.measure.induction import measure_recall
    from turbo_kv.measure.perplexity import measure_perplexity
    from turbo_kv.models import placement

    asked = {"model": model, "text": read_text(text), "context": context, "dtype": dtype}
    asked["device"] = placement.SHARD if tensor_parallel else device
    asked["exact_window"] = exact_window
    with status() as progress:
        asked |= {"config": _config(ctx), "progress": progress}
        reports = [measure_perplexity(**asked, chunk=chunk)]
        if recall:
            reports.append(measure_recall(**asked))
    placement.leave()
    if not placement.is_first():
        return
    for report in reports:
        console.print(report.summary, highlight=False)
    write({key: value for each in reports for key, value in each.to_dict().items()}, destination)


@app.command()
def generate(
    ctx: typer.Context,
    *,
    prompt: Annotated[str | None, typer.Option(help="text to continue, or an example")] = None,
    text: Annotated[Path | None, typer.Option("--text", help="a UTF-8 file to continue")] = None,
    new_tokens: Annotated[int, typer.Option(help="tokens to generate, at most")] = 64,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token")] = 0.0,
    top_p: Annotated[float, typer.Option(help="share of the mass to sample from")] = 1.0,
    sampling_seed: Annotated[int, typer.Option(help="of sampling, both streams alike")] = 0,
    exact_window: Annotated[int, typer.Option(help="newest tokens that are not coded")] = 0,
    model: _Model = "tiny",
    device: _Device = "auto",
    dtype: _Dtype = "auto",
    bits: _Bits = DEFAULT.bits,
    rotation: _Rotation = DEFAULT.rotation,
    qjl: _Qjl = DEFAULT.qjl,
    qjl_budget: _QjlBudget = DEFAULT.qjl_budget,
    qjl_on: _QjlOn = DEFAULT.qjl_on,
    centering: _Centering = DEFAULT.centering,
    codebook: _Codebook = DEFAULT.codebook,
    scale_bits: _ScaleBits = DEFAULT.scale_bits,
    seed: _Seed = DEFAULT.seed,
    destination: _Json = None,
) -> None:
    """Continue a prompt twice, exactly and from the packed cache, side by side."""
    from turbo_kv.measure.compare_generation import compare_generation
    from turbo_kv.measure.prompts import EXAMPLES
    from turbo_kv.measure.transcript import GenerationRequest

    if prompt is not None and text is not None:
        raise ValueError("--prompt and --text both give a prompt; use one of them")
    given = read_text(text) if prompt is None else prompt
    request = GenerationRequest(
        next(iter(EXAMPLES.values())) if given is None else given,
        *(model, new_tokens, temperature, top_p, sampling_seed, device),
        config=_config(ctx),
        dtype=dtype,
        exact_window=exact_window,
    )
    with status() as progress:
        for transcript in compare_generation(request, progress):
            said = len(transcript.steps)
            progress(said / new_tokens, f"Generated {said:,} of {new_tokens:,} tokens")
    show_transcript(transcript)
    write(transcript.to_dict(), destination)


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
    scale_bits: _ScaleBits = DEFAULT.scale_bits,
    destination: _Json = None,
) -> None:
    """Tell what every Qwen2.5's cache takes at a context, and the longest one that fits."""
    from turbo_kv.measure.planner import GIB, PlanRequest, plan_sizes

    request = PlanRequest(context, batch, round(memory * GIB), _config(ctx))
    plans = plan_sizes(request)
    show_plans(plans, memory)
    result = {"memory_bytes": request.memory, "config": request.config.to_dict()}
    write(result | {"models": [one.to_dict() for one in plans]}, destination)


@app.command()
def doctor(destination: _Json = None) -> None:
    """Tell what this machine is, what will run on it, and whether hub and cache are in order."""
    from turbo_kv.measure import doctor as module

    with status():
        findings = module.examine()
    for finding in findings:
        mark = "[green]✓[/green]" if finding.fine else "[red]✗[/red]"
        console.print(mark, f"{finding.name:9}", end="")
        console.print(finding.said, markup=False, highlight=False, soft_wrap=True)
    write(module.to_dict(findings), destination)


@app.command()
def train_tiny(
    corpus: Annotated[Path, typer.Option(help="a folder of .txt and .txt.xz files")],
    out: Annotated[
        Path | None, typer.Option(help="a folder; without one, the bundled model is replaced")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cuda, or cpu for a smoke test")] = "auto",
    twin: Annotated[
        bool, typer.Option("--twin", help="train a second model to test choices on, into --out")
    ] = False,
    destination: _Json = None,
) -> None:
    """Train the bundled model: on a GPU in minutes, on a CPU only to see that it runs."""
    from turbo_kv.models import tiny
    from turbo_kv.models.device import choose_device
    from turbo_kv.models.train_plan import TWIN
    from turbo_kv.models.train_tiny import train_tiny

    if twin and out is None:
        raise ValueError("the twin is not the bundled model; say with --out where it belongs")
    if out is None and choose_device(device).type != "cuda":
        raise ValueError(
            "without a CUDA device this is a smoke run, and it would replace the bundled model; "
            "say with --out where its result belongs"
        )
    with status() as progress:
        asked = {"plan": TWIN if twin else None, "device": device, "progress": progress}
        report = train_tiny(corpus, out or tiny.FOLDER, **asked)
    write(asdict(report), destination)


def _config(ctx: typer.Context) -> QuantConfig:
    """The Quantization flags of a command; those it does not take keep their defaults."""
    given = {f.name: ctx.params[f.name] for f in fields(QuantConfig) if f.name in ctx.params}
    return QuantConfig(**given)


if __name__ == "__main__":
    app()
