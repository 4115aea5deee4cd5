"""Which benchmarks there are, and where each keeps its result: `python -m turbo_kv bench NAME`.

Knows names and files, nothing of what is measured. A benchmark is imported when it runs.
"""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from turbo_kv.bench.stamp import ROOT
from turbo_kv.models.progress import Progress

ASSETS = ROOT / "assets"
RESULTS = ASSETS / "results"


def keep(name: str, progress: Progress) -> list[Path]:
    """Run one benchmark and write its result files; returns their paths.

    Raises ValueError for a name that is none, and outside a checkout, which has no `assets`.
    """
    if name not in BENCHMARKS:
        raise ValueError(f"there is no benchmark {name!r}; choose one of {', '.join(BENCHMARKS)}")
    results_folder()
    return BENCHMARKS[name](progress)


def results_folder() -> Path:
    """Where results are kept. Raises ValueError outside a checkout, which has no `assets`."""
    if not ASSETS.is_dir():
        raise ValueError(f"{ASSETS} does not exist; results are kept in a checkout of the project")
    return RESULTS


def _result(module: str, function: str = "run") -> Callable[[Progress], list[Path]]:
    """A benchmark that returns its result, kept under the module's name."""

    def measured(progress: Progress) -> list[Path]:
        result = getattr(import_module(f"turbo_kv.bench.{module}"), function)(progress=progress)
        return [_write(module, result)]

    return measured


def _on_device(module: str) -> Callable[[Progress], list[Path]]:
    """A benchmark whose result is kept apart for every machine it ran on."""

    def measured(progress: Progress) -> list[Path]:
        from turbo_kv.bench.speed_report import machine

        result = import_module(f"turbo_kv.bench.{module}").run(progress=progress)
        return [_write(f"{module}-{machine(result)}", result)]

    return measured


def _live(progress: Progress) -> list[Path]:
    from turbo_kv.bench.live import TEXTS, run

    return [
        _write(f"live-{short}", run(source, progress=progress)) for short, source in TEXTS.items()
    ]


def _fidelity(progress: Progress) -> list[Path]:
    from turbo_kv.bench.fidelity import write
    from turbo_kv.bench.frontier import draw

    return [*write(RESULTS, progress), draw(RESULTS, ASSETS / "fidelity.png")]


def _trellis_levels(progress: Progress) -> list[Path]:
    from turbo_kv.bench.trellis_levels import write_levels

    return write_levels(progress)


def _precompute(progress: Progress) -> list[Path]:
    from turbo_kv.bench import methods
    from turbo_kv.bench.precompute import precompute

    made = list(precompute(RESULTS, progress))
    return [*made, _write(methods.NAME, methods.method_points(progress))]


def _attention(progress: Progress) -> list[Path]:
    from turbo_kv.bench.attention import result_name, run
    from turbo_kv.bench.attention_report import draw

    result = run(progress=progress)
    written = [_write(result_name(result), result)]
    return written if result["device"] == "cpu" else [*written, draw(result, ASSETS)]


def _screenshots(progress: Progress) -> list[Path]:
    from turbo_kv.bench.screenshots import screenshots

    return screenshots(ASSETS / "screenshots", progress)


def _readme(_: Progress) -> list[Path]:
    from turbo_kv.bench.family_report import write_reports
    from turbo_kv.bench.readme import README, update

    update()
    return [README, *write_reports(RESULTS)]


BENCHMARKS: dict[str, Callable[[Progress], list[Path]]] = {
    "live": _live,
    "fidelity": _fidelity,
    "scale": _result("scale"),
    "decode": _result("decode"),
    "attention": _attention,
    "quantize": _on_device("quantize"),
    "step": _on_device("step"),
    "line": _result("line"),
    "trellis-levels": _trellis_levels,
    "trellis": _result("trellis"),
    "page": _result("page", "page_times"),
    "reliability": _result("reliability"),
    "precompute": _precompute,
    "screenshots": _screenshots,
    "readme": _readme,
}


def _write(name: str, result: dict[str, Any]) -> Path:
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path
