"""Time on a GPU: a CUDA graph replayed, events around it, and the bandwidth of a copy beside it.

Several layers' caches in one graph, each attended once, leave none of them in the L2 cache. Does
not know what is measured.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median, quantiles
from time import perf_counter

import torch

REPLAYS = 30
WARM_SECONDS = 0.1  # until clocks have risen
COPY_BYTES = 2**31
L2_TURNS = 4  # how often over the layers' caches should fill the L2 cache


@dataclass(frozen=True)
class Time:
    """Microseconds of one call: the median over replays, and its 10th and 90th percentiles."""

    median: float
    low: float
    high: float


def replay(calls: Iterable[Callable[[], object]], replays: int = REPLAYS) -> Time:
    """Time per call of a graph that makes all of them in order."""
    calls = list(calls)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for call in calls[:2]:
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    start = perf_counter()
    while perf_counter() - start < WARM_SECONDS:
        graph.replay()
        torch.cuda.synchronize()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(replays + 1)]
    marks[0].record()
    for mark in marks[1:]:
        graph.replay()
        mark.record()
    torch.cuda.synchronize()
    times = [1e3 * start.elapsed_time(stop) / len(calls) for start, stop in pairwise(marks)]
    tenths = quantiles(times, n=10)
    return Time(median(times), tenths[0], tenths[-1])


def copy_bandwidth() -> float:
    """Bytes per second, read and written, of a large copy on the device."""
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    time = replay([lambda: target.copy_(source)])
    return 2 * COPY_BYTES / (time.median * 1e-6)


def layers_for(nbytes: int, most: int) -> int:
    """Caches of `nbytes` that outgrow the L2 cache `L2_TURNS` times: 2 to `most`."""
    l2 = torch.cuda.get_device_properties(0).L2_cache_size
    return max(2, min(most, -(-L2_TURNS * l2 // nbytes)))
