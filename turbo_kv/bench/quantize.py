"""How fast keys and values become codes: `python -m turbo_kv bench quantize`.

On a GPU: one launch that centres, rotates, codes and packs a layer of Qwen2.5-7B's shapes, in CUDA
C where that can be and else in Triton, against the bandwidth of a copy in the same run, with cold
caches. On a CPU: see quantize_cpu.py. Nothing is timed before its codes have been compared with the
reference's.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from turbo_kv.bench.graph import copy_bandwidth, layers_for, replay
from turbo_kv.bench.stamp import stamp
from turbo_kv.kernels.choose import why_not_cuda_c
from turbo_kv.kernels.pages import SIDES, empty_pages, to_dense
from turbo_kv.models.progress import Progress
from turbo_kv.quant.centering import Center
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.packing import PackedVectors, unpack
from turbo_kv.quant.quantizer import TurboQuantizer

KV_HEADS, THETA = 4, 1e6  # of Qwen2.5-7B
BITS = QuantConfig().bits  # of a code
CASES = (  # batch, tokens coded, tokens stored before, head_dim, codebook
    (1, 32768, 0, 128, "lloyd-max"),
    (1, 32768, 0, 128, "fast"),
    (1, 32768, 0, 64, "lloyd-max"),
    (8, 4096, 0, 128, "lloyd-max"),
    (1, 1, 32767, 128, "lloyd-max"),
    (64, 1, 32767, 128, "lloyd-max"),
)
TIE = (
    3e-5  # of a boundary, in standard deviations: both sums of 128 fp32 products may be off so far
)
MOST_TIES = 1e-4  # of all codes


def run(progress: Progress) -> dict[str, Any]:
    """Measure on the GPU if there is one, else on the CPU.

    Raises ArithmeticError when a code differs where no tie excuses it.
    """
    if not torch.cuda.is_available():
        from turbo_kv.bench import quantize_cpu

        return quantize_cpu.run(progress)
    rows, copy = [], copy_bandwidth()
    with torch.inference_mode():
        for done, case in enumerate(CASES):
            progress(done / len(CASES), f"{case[1]:,} tokens of {case[0]} texts")
            rows.append(_measured(case, copy))
    found = {"stamp": stamp(), "device": "cuda", "path": _path(), "copy_bytes_per_second": copy}
    return found | {"rows": rows}


def _path() -> str:
    why = why_not_cuda_c(torch.device("cuda"))
    return "CUDA C" if why is None else f"Triton: {why}"


Quantizers = tuple[TurboQuantizer, TurboQuantizer]


class _Layer:
    """Random states with a mean, on the way into pages of their own."""

    def __init__(self, case: tuple[int, int, int, int, str], quantizers: Quantizers) -> None:
        batch, tokens, past, head_dim, _ = case
        self.quantizers, self.past = quantizers, past
        shape = (batch, KV_HEADS, tokens, head_dim)
        self.center = Center(
            8 * torch.randn(batch, KV_HEADS, head_dim, device="cuda"),
            torch.randn(batch, KV_HEADS, head_dim, device="cuda"),
        )
        slots = past + tokens
        room = *shape[:2], slots, head_dim
        keys, values = (empty_pages(room, BITS, side, "cuda") for side in SIDES)
        keys.length.fill_(slots)
        self.pages = keys, replace(values, length=keys.length)
        frequencies = THETA ** -(torch.arange(0, head_dim, 2).double() / head_dim)
        angles = torch.outer(torch.arange(keys.capacity).double(), frequencies).repeat(1, 2)
        self.table = angles.cos().float().cuda(), angles.sin().float().cuda()
        new = self.table[0][past:slots], self.table[1][past:slots]
        offsets = self.center.key_offset(*new), self.center.value_offset()
        self.states = tuple(
            (torch.randn(shape, device="cuda") + offset).bfloat16() for offset in offsets
        )
        self.centred = tuple(
            states.float() - offset for states, offset in zip(self.states, offsets, strict=True)
        )

    def code(self) -> None:
        from turbo_kv.kernels.append import append

        append(self.states, self.pages, self.quantizers, self.center, self.table)

    def ties(self) -> tuple[int, int]:
        """Codes that differ from the reference's, and all; each must lie on a boundary."""
        self.code()
        differ = total = 0
        for x, side, quantizer in zip(self.centred, self.pages, self.quantizers, strict=True):
            dense = to_dense(side, self.past + x.shape[2])
            new = dense.slice(self.past, dense.seq_len)
            differ += sum(differing(x[row : row + 1], new, row, quantizer) for row in range(len(x)))
            total += x.numel()
        if differ > MOST_TIES * total:
            raise ArithmeticError(f"{differ} of {total} codes differ from the reference's")
        return differ, total

    @property
    def moved_bytes(self) -> float:
        """Read and written: states, words and scales of the new tokens."""
        states = sum(each.nbytes for each in self.states)
        words = sum(each.numel() for each in self.states) * BITS / 8
        return states + words + sum(each[..., 0].numel() * 2 for each in self.states)


def differing(x: Tensor, dense: PackedVectors, row: int, quantizer: TurboQuantizer) -> int:
    """Codes of a row of `dense` that are not the quantizer's of x (1, H, T, D), all of them ties.

    Raises ArithmeticError for a code that differs far from a boundary, and for another scale.
    """
    reference = quantizer.quantize(x)
    given, expected = (
        unpack(codes, BITS, x.shape[-1]).int() for codes in (dense.codes[row], reference.codes[0])
    )
    differ = given != expected
    unit = quantizer.rotate(x[0]) / x[0].norm(dim=-1, keepdim=True)
    edges = torch.stack(quantizer.codebook.boundaries)
    near_by = (unit.unsqueeze(-1) - edges).abs().amin(-1) * x.shape[-1] ** 0.5
    if (differ & (near_by > TIE)).any():
        farthest = near_by[differ].max().item()
        raise ArithmeticError(f"a code differs from the reference's {farthest:.2g} deviations off")
    alike = ~differ.any(-1)  # a code on a tie changes the scale of its vector
    if not torch.allclose(
        dense.scales[row][alike].float(), reference.scales[0][alike].float(), rtol=1.1e-3
    ):
        raise ArithmeticError("scales differ from the reference's by more than their last bit")
    return int(differ.sum())


def _measured(case: tuple[int, int, int, int, str], copy: float) -> dict[str, Any]:
    batch, tokens, past, head_dim, codebook = case
    config = QuantConfig(codebook=codebook)
    quantizers = tuple(
        TurboQuantizer(head_dim, each, "cuda") for each in (config, config.for_values)
    )
    layer = _Layer(case, quantizers)
    ties, codes = layer.ties()
    moved = layer.moved_bytes
    layers = [layer, *(_Layer(case, quantizers) for _ in range(layers_for(int(moved), 16) - 1))]
    time = replay([each.code for each in layers])
    rate = moved / (time.median * 1e-6)
    return {
        "batch": batch,
        "tokens": tokens,
        "past": past,
        "head_dim": head_dim,
        "codebook": codebook,
        "ties": ties,
        "codes": codes,
        "microseconds": vars(time),
        "values_per_second": codes / (time.median * 1e-6),
        "bytes_per_second": rate,
        "of_copy": rate / copy,
    }
