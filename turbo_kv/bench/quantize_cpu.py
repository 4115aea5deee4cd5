"""How fast a CPU codes vectors of 128 values: plain PyTorch, the quantizer, and the one in C.

The plain pipeline is what public PyTorch versions of TurboQuant run, at its best: no (vectors,
levels) differences but `bucketize`, no loop over bits but over the eight codes of three bytes.
Every thread count runs in a process of its own. Nothing in C is timed before its codes have been
compared with the quantizer's.
"""

import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor

from turbo_kv.bench.process import alone
from turbo_kv.bench.quantize import differing
from turbo_kv.bench.stamp import stamp
from turbo_kv.kernels import choose
from turbo_kv.kernels.native_quantizer import NativeQuantizer
from turbo_kv.models.progress import Progress
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.lloyd_max import codebook
from turbo_kv.quant.quantizer import TurboQuantizer

HEAD_DIM, VECTORS, REPEATS = 128, 65536, 15
CONFIG = QuantConfig()
COMPILED = "TurboQuantizer, compiled C"


def run(progress: Progress) -> dict[str, Any]:
    """Rows of one thread and of every core. Raises ArithmeticError for codes that differ."""
    threads = sorted({1, os.cpu_count() or 1})
    rows = [row for count in threads for row in alone(measure, count, progress=progress)]
    reason = choose.why_not_coded(HEAD_DIM, CONFIG)
    path = "compiled C" if reason is None else f"eager PyTorch: {reason}"
    return {"stamp": stamp(), "device": "cpu", "path": path, "head_dim": HEAD_DIM, "rows": rows}


def measure(threads: int, progress: Progress) -> list[dict[str, Any]]:
    """Million values per second of every pipeline on `threads` threads."""
    torch.set_num_threads(threads)
    x = torch.randn(1, 1, VECTORS, HEAD_DIM, generator=torch.Generator().manual_seed(0))
    reference = TurboQuantizer(HEAD_DIM, CONFIG)
    ways: dict[str, Callable[[], object]] = {
        "plain PyTorch": Plain().quantize_all(x),
        "TurboQuantizer, eager": lambda: reference.quantize(x),
    }
    compiled = {}
    if choose.why_not_coded(HEAD_DIM, CONFIG) is None:
        quantizer = NativeQuantizer(HEAD_DIM, CONFIG)
        compiled = {"ties": differing(x, quantizer.quantize(x), 0, reference), "codes": x.numel()}
        ways[COMPILED] = lambda: quantizer.quantize(x)
    rows = []
    for done, (name, way) in enumerate(ways.items()):
        progress(done / len(ways), f"{name}, threads: {threads}")
        row = {"way": name, "threads": threads, **_rate(way, x.numel())}
        rows.append(row | compiled if name == COMPILED else row)
    return rows


class Plain:
    """TurboQuant as one writes it first: a dense random rotation, bucketize, codes shifted."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.rotation = torch.linalg.qr(torch.randn(HEAD_DIM, HEAD_DIM, generator=generator)).Q
        self.boundaries = codebook(3, HEAD_DIM).boundaries

    def quantize_all(self, x: Tensor) -> Callable[[], object]:
        return lambda: self.quantize(x)

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Codes in three bytes for every eight values, and norms in fp16."""
        norms = x.norm(dim=-1, keepdim=True)
        codes = torch.bucketize((x / norms) @ self.rotation, self.boundaries, out_int32=True)
        groups = codes.unflatten(-1, (-1, 8))
        words = groups[..., 0]
        for place in range(1, 8):
            words = words | groups[..., place] << 3 * place
        packed = words.unsqueeze(-1).view(torch.uint8)[..., :3]
        return packed.flatten(-2).contiguous(), norms.half()


def _rate(way: Callable[[], object], values: int) -> dict[str, float]:
    way()
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        way()
        seconds.append(time.perf_counter() - start)
    return {
        "million_values_per_second": values / median(seconds) / 1e6,
        "slowest": values / max(seconds) / 1e6,
        "fastest": values / min(seconds) / 1e6,
    }
