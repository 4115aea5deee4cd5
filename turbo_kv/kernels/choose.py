"""Which code quantizes and attends on a device, and why: the text that goes with every result."""

from importlib.util import find_spec

import torch

from turbo_kv.quant.hadamard import HadamardRotation
from turbo_kv.quant.quantizer import TurboQuantizer
from turbo_kv.quant.scalar import ScalarCodebook

PAGED_DEVICES = {"cuda"}  # device types whose caches lie in pages
HEAD_DIMS = (64, 128)
MOST_QUERIES = 8  # query heads per KV head


def path(device: torch.device) -> str:
    """The path that analysis takes on `device`, then the reason after a colon."""
    if device.type == "cpu":
        missing = "the CPU was asked for" if torch.cuda.is_available() else "no CUDA device"
        return f"CPU, eager PyTorch: {missing}"
    return f"{device.type.upper()}, eager PyTorch: every vector is restored to be compared"


def cache_path(device: torch.device, why_dense: str | None) -> str:
    """The path that a live cache takes on `device`, then the reason after a colon."""
    if why_dense is None:
        return f"{device.type.upper()}, Triton: tokens are coded into pages and attended there"
    return f"{device.type.upper()}, eager PyTorch on dense codes: {why_dense}"


def why_dense(
    device: torch.device, quantizers: tuple, query_groups: int, exact_window: int = 0
) -> str | None:
    """Why a cache keeps dense codes in place of pages; None if it keeps pages.

    quantizers: of keys and of values. query_groups: query heads per KV head.
    """
    if device.type not in PAGED_DEVICES:
        return "pages need a CUDA device"
    if find_spec("triton") is None:
        return "Triton is not installed"
    if exact_window:
        return "the kernels keep no exact window"
    if query_groups > MOST_QUERIES:
        return f"{query_groups} query heads share a KV head, and the kernels take {MOST_QUERIES}"
    reasons = (why_not(quantizer) for quantizer in quantizers)
    return next((reason for reason in reasons if reason is not None), None)


def why_not(quantizer: TurboQuantizer) -> str | None:
    """What the kernels lack for the vectors of a quantizer, or None."""
    if not isinstance(quantizer, TurboQuantizer):
        return "one side stays exact"
    head_dims = f"head_dim is {quantizer.head_dim}, and the kernels know {_listed(HEAD_DIMS)}"
    reasons = {
        "the kernels read no QJL sketch, which costs more than the codes it aids": (
            quantizer.sketch is not None
        ),
        "the kernels compute levels one by one, and a trellis has none": (
            not isinstance(quantizer.codebook, ScalarCodebook)
        ),
        "the kernels keep scales in fp16": quantizer.scale_bits != 16,
        "the kernels always rotate": not isinstance(quantizer.rotation, HadamardRotation),
        head_dims: quantizer.head_dim not in HEAD_DIMS,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _listed(numbers: tuple[int, ...]) -> str:
    return " and ".join(map(str, numbers))
