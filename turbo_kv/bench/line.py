"""The straight line against the clock and against memory: what Run and a switch cost.

Each context runs in a fresh process, so that its peak is its own. Knows nothing of the page.
"""

import multiprocessing
from dataclasses import asdict, dataclass, replace
from statistics import median
from time import perf_counter
from typing import Any

import psutil

from turbo_kv.bench.process import peak_bytes
from turbo_kv.bench.stamp import stamp
from turbo_kv.measure.analyze import measure, prepare
from turbo_kv.measure.report import Request
from turbo_kv.models.load import load
from turbo_kv.models.progress import Progress, silent

CONTEXTS = (2048, 8192)
REPEATS = 5
WARM_TOKENS = 256


@dataclass(frozen=True)
class Line:
    """One context. Times are medians of REPEATS, in seconds, the model loaded and warm.

    run: read the text, capture and measure. switch: measure the same capture another way.
    captured_bytes: the captured keys, values and queries. extra_bytes: what the process held at
    its peak beyond the loaded model and those.
    """

    tokens: int
    run_seconds: float
    switch_seconds: float
    captured_bytes: int
    extra_bytes: int


def run(
    model: str = "tiny", contexts: tuple[int, ...] = CONTEXTS, progress: Progress = silent
) -> dict[str, Any]:
    """Measure every context on the default text; the stamped result."""
    fresh = multiprocessing.get_context("spawn")
    lines = []
    for index, context in enumerate(contexts):
        progress(index / len(contexts), f"The straight line at {context:,} tokens")
        with fresh.Pool(1) as pool:
            lines.append(pool.apply(_line, (Request(model=model, context=context),)))
    return {"stamp": stamp(), "model": model, "lines": [asdict(line) for line in lines]}


def _line(request: Request) -> Line:
    load(request.model, request.device)
    _whole(replace(request, context=WARM_TOKENS))
    loaded = psutil.Process().memory_info().rss
    runs, switches = [], []
    for _ in range(REPEATS):
        prepared = None  # not held beside the next one
        start = perf_counter()
        prepared = _whole(request)
        runs.append(perf_counter() - start)
        start = perf_counter()
        for _ in measure(prepared, replace(request.config, centering="off")):
            pass
        switches.append(perf_counter() - start)
    captured = prepared.capture.nbytes
    return Line(
        tokens=prepared.capture.tokens.shape[1],
        run_seconds=median(runs),
        switch_seconds=median(switches),
        captured_bytes=captured,
        extra_bytes=peak_bytes() - loaded - captured,
    )


def _whole(request: Request) -> Any:
    prepared = prepare(request)
    for _ in measure(prepared, request.config):
        pass
    return prepared
