"""The benchmarks as commands: `python -m turbo_kv bench NAME`.

`family` has flags of its own; every other is known by its name to bench/keep.py, and is imported
when it runs.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from turbo_kv.bench.keep import BENCHMARKS, keep, results_folder
from turbo_kv.terminal import bars, console, status

bench = typer.Typer(
    help="Measure again what the README and the page show, into assets/ of a checkout.",
    no_args_is_help=True,
)


@bench.command()
def family(
    *,
    models: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="tiny, Qwen2.5 names, local folders; shape:NAME for random weights of its shapes",
        ),
    ] = None,
    contexts: Annotated[str, typer.Option(metavar="N,...", help="tokens to read")] = "2048,8192",
    text: Annotated[
        str | None,
        typer.Option(help="a UTF-8 file, or wikitext-2; Python's language reference by default"),
    ] = None,
    windows: Annotated[
        int, typer.Option(help="pieces of the text, each --contexts tokens; 0 takes all")
    ] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps")] = "auto",
    offline: Annotated[bool, typer.Option("--offline", help="download nothing")] = False,
    machine: Annotated[
        str | None, typer.Option(help="what to call this machine in the tables")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="a folder; by default the checkout's assets/results")
    ] = None,
) -> None:
    """Measure Qwen2.5 models of every size: memory, time, cosine, attention, perplexity.

    Ended early, it goes on where it stopped. Rows of other machines stay.
    """
    if offline:  # read when the hub's client is imported
        os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    from turbo_kv.bench import evaluation_text
    from turbo_kv.bench.family import MODELS, run
    from turbo_kv.bench.family_report import write_reports

    folder = out or results_folder()
    chosen = [name.strip() for name in models.split(",")] if models else MODELS
    with bars() as progress:
        path = run(
            folder,
            evaluation_text.read_text(text, windows),
            models=chosen,
            contexts=_numbers(contexts),
            device=device,
            machine=machine,
            progress=progress,
        )
    for written in (path, *write_reports(folder)):
        console.print(f"Wrote {written}", highlight=False, soft_wrap=True)


@bench.command()
def twin(
    folder: Annotated[Path, typer.Argument(help="what `train-tiny --twin --out FOLDER` wrote")],
) -> None:
    """Measure the frontier on a model that no choice was made on."""
    from turbo_kv.bench.fidelity import write_twin

    with status() as progress:
        path = write_twin(folder, results_folder(), progress)
    console.print(f"Wrote {path}", highlight=False, soft_wrap=True)


def _numbers(contexts: str) -> list[int]:
    try:
        return [int(each) for each in contexts.split(",")]
    except ValueError:
        raise ValueError(
            f"--contexts is {contexts!r}; give whole numbers with commas between, as 2048,8192"
        ) from None


def _command(name: str) -> Callable[[], None]:
    def run() -> None:
        with status() as progress:
            written = keep(name, progress)
        for path in written:
            console.print(f"Wrote {path}", highlight=False, soft_wrap=True)

    return run


for name in BENCHMARKS:
    bench.command(name, help=f"Keep the result of `{name}`.")(_command(name))
