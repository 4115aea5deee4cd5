"""Which code quantizes and attends on a device, and why: the text that goes with every result."""

from functools import lru_cache
from importlib.util import find_spec

import torch
from torch import Tensor

from turbo_kv.kernels import (
    compiled_cuda,
    native,
    native_attention,
    native_quantizer,
    native_trellis,
)
from turbo_kv.kernels.native_quantizer import NativeQuantizer
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.hadamard import HadamardRotation
from turbo_kv.quant.quantizer import TurboQuantizer
from turbo_kv.quant.scalar import ScalarCodebook
from turbo_kv.quant.trellis import STATE_BITS, TrellisCodebook

PAGED_DEVICES = {"cuda"}  # device types whose caches lie in pages
HEAD_DIMS = (64, 128)
MOST_QUERIES = 8  # query heads per KV head
MOST_NEWEST = 128  # tokens beside the pages
C_HEAD_DIMS = range(32, 257, 16)
TRELLISES = ("trellis", "query-trellis")
_IN_PAGES = "tokens are coded into pages and attended there"
SEARCHED = "; compiled C searches the trellis"  # for PyTorch, which codes the rest of the way

Sides = tuple[TurboQuantizer, TurboQuantizer]  # the quantizers of keys and of values


def path(device: torch.device, config: QuantConfig | None = None) -> str:
    """The path that analysis takes on `device`, then the reason after a colon.

    config: of what is analysed, to name what compiled C does for it.
    """
    if device.type == "cpu":
        missing = "the CPU was asked for" if torch.cuda.is_available() else "no CUDA device"
        trellis = config is not None and config.codebook in TRELLISES
        searched = trellis and why_not_searched(config.codebook_bits) is None
        return f"CPU, eager PyTorch: {missing}{SEARCHED if searched else ''}"
    return f"{device.type.upper()}, eager PyTorch: every vector is restored to be compared"


def cache_path(device: torch.device, sides: Sides, query_groups: int, exact_window: int = 0) -> str:
    """The path that a live cache takes on `device`, then the reason after a colon.

    query_groups: query heads per KV head.
    """
    name, why = device.type.upper(), why_dense(device, sides, query_groups, exact_window)
    if why is None:
        other = why_not_cuda_c(device)
        if other is None:
            if exact_window:
                return f"{name}, CUDA C and Triton: {_IN_PAGES}, newer ones by Triton"
            return f"{name}, CUDA C: {_IN_PAGES}"
        return f"{name}, Triton: {_IN_PAGES}; no CUDA C: {other}"
    if device.type != "cpu":
        return f"{name}, eager PyTorch on dense codes: {why}"
    why_eager = why_not_c(sides, query_groups)
    if why_eager is None:
        return f"{name}, compiled C on dense codes: {why}{_searched(sides[0])}"
    coder = "; compiled C codes" if isinstance(sides[0], NativeQuantizer) else _searched(sides[0])
    return f"{name}, eager PyTorch on dense codes: {why_eager}{coder}"


def quantizer(
    head_dim: int, config: QuantConfig, device: torch.device, metric: Tensor | None = None
) -> TurboQuantizer:
    """The quantizer of a live cache: compiled C on a CPU, unless `why_not_coded` in C.

    metric: as for TurboQuantizer.
    """
    if device.type == "cpu" and why_not_coded(head_dim, config) is None:
        return NativeQuantizer(head_dim, config)
    return searching(TurboQuantizer(head_dim, config, device, metric))


def searching(quantizer: TurboQuantizer) -> TurboQuantizer:
    """The quantizer; on a CPU with a compiler, C searches its trellis from now on, bit for bit."""
    for codebook in (quantizer.codebook, *quantizer.head_codebooks):
        on_cpu = isinstance(codebook, TrellisCodebook) and codebook.levels.device.type == "cpu"
        if on_cpu and why_not_searched(codebook.bits, codebook.state_bits) is None:
            codebook.walk = native_trellis.WALK
    return quantizer


@lru_cache(maxsize=16)
def why_not_searched(bits: int, state_bits: int = STATE_BITS) -> str | None:
    """Why compiled C does not search a trellis, None if it does. The first call may compile it."""
    try:
        native_trellis.kernel(bits, state_bits)
    except native.NotCompiled as error:
        return str(error)
    return None


def _searched(quantizer: TurboQuantizer) -> str:
    """SEARCHED, if it does."""
    codebook = getattr(quantizer, "codebook", None)
    found = isinstance(codebook, TrellisCodebook) and codebook.walk is native_trellis.WALK
    return SEARCHED if found else ""


@lru_cache(maxsize=64)
def why_not_coded(head_dim: int, config: QuantConfig) -> str | None:
    """Why compiled C does not code on a CPU, None if it does. The first call may compile it."""
    if config.qjl:
        return "the kernels make no QJL sketch, which costs more than the codes it aids"
    if config.codebook in TRELLISES:
        return "the kernels compare with boundaries, and a trellis is searched"
    if head_dim not in C_HEAD_DIMS:
        return _other_head_dim(head_dim)
    try:
        native_quantizer.kernel(config.codebook_bits, head_dim)
    except native.NotCompiled as error:
        return str(error)
    return None


def why_dense(
    device: torch.device, sides: Sides, query_groups: int, exact_window: int = 0
) -> str | None:
    """Why a cache keeps dense codes in place of pages; None if it keeps pages."""
    if device.type not in PAGED_DEVICES:
        return "pages need a CUDA device"
    if find_spec("triton") is None:
        return "Triton is not installed"
    if exact_window > MOST_NEWEST:
        return f"{exact_window} newest tokens are not coded, and the kernels take {MOST_NEWEST}"
    if query_groups > MOST_QUERIES:
        return f"{query_groups} query heads share a KV head, and the kernels take {MOST_QUERIES}"
    reasons = (why_not(quantizer) for quantizer in sides)
    return next((reason for reason in reasons if reason is not None), None)


def why_not(quantizer: TurboQuantizer) -> str | None:
    """What the Triton kernels lack for the vectors of a quantizer, or None."""
    reason = _why_not_codes(quantizer)
    if reason is not None:
        return reason
    if not isinstance(quantizer.codebook, ScalarCodebook):
        return "the kernels pick levels code by code, and a trellis has none"
    head_dims = f"head_dim is {quantizer.head_dim}, and the kernels know {_listed(HEAD_DIMS)}"
    reasons = {
        "the kernels keep scales in fp16": quantizer.scale_bits != 16,
        "the kernels always rotate": not isinstance(quantizer.rotation, HadamardRotation),
        head_dims: quantizer.head_dim not in HEAD_DIMS,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def why_not_cuda_c(device: torch.device) -> str | None:
    """Why CUDA C neither codes into pages nor attends to them on a device, None if it does."""
    try:
        compiled_cuda.check(device)
    except native.NotCompiled as error:
        return str(error)
    return None


def why_not_c(sides: Sides, query_groups: int) -> str | None:
    """Why compiled C does not attend on a CPU, None if it does. The first call may compile it."""
    keys, values = sides
    if reason := _why_not_codes(keys) or _why_not_codes(values):
        return reason
    if keys.head_dim not in C_HEAD_DIMS:
        return _other_head_dim(keys.head_dim)
    bits, of_values = keys.codebook.bits, values.codebook.bits
    if bits != of_values:
        return f"keys take {bits} bits and values {of_values}, and the kernels know one width"
    state_bits = getattr(keys.codebook, "state_bits", 0)
    return _why_not_compiled(bits, keys.head_dim, query_groups, state_bits)


@lru_cache(maxsize=64)
def _why_not_compiled(bits: int, head_dim: int, query_groups: int, state_bits: int) -> str | None:
    if bits == 1:
        return "the kernels know 2 to 4 bits"
    try:
        native_attention.kernel(bits, head_dim, query_groups, state_bits)
    except native.NotCompiled as error:
        return str(error)
    return None


def _why_not_codes(quantizer: TurboQuantizer) -> str | None:
    """Why there is more to read than codes and scales, or None."""
    if not isinstance(quantizer, TurboQuantizer):
        return "one side stays exact"
    if quantizer.sketch is not None:
        return "the kernels read no QJL sketch, which costs more than the codes it aids"
    return None


def _other_head_dim(head_dim: int) -> str:
    return f"head_dim is {head_dim}, and the kernels know multiples of 16 from 32 to 256"


def _listed(numbers: tuple[int, ...]) -> str:
    return " and ".join(map(str, numbers))
