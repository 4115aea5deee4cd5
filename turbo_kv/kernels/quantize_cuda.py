"""`append` in CUDA C, cuda/quantize.cu: the same pages, in less time.

Knows which tables and numbers the kernel takes, and not when it is called (append.py).
"""

import ctypes
import struct
from ctypes import c_float, c_int, c_long, c_uint, c_void_p
from functools import lru_cache

import torch
from torch import Tensor

from turbo_kv.kernels import compiled_cuda
from turbo_kv.kernels.companders import compander
from turbo_kv.kernels.native import address
from turbo_kv.kernels.pages import Pages, page_count
from turbo_kv.quant.centering import Center
from turbo_kv.quant.quantizer import TurboQuantizer

REGISTERS = {1: 168, 8: 128}  # warps of a program, a page each -> registers of a thread, at most
FEW_PAGES = 2048  # of all heads; fewer are programs of one warp each, to be spread
DTYPES = {torch.float32: 32, torch.float16: 16, torch.bfloat16: 0}  # as quantize.cu numbers them
CELLS = 16  # of a compander: what a nibble tells apart
SMALLEST = -149  # exponent of the least number of fp32, by which codes are counted
LOWERED = -32  # of what coordinates are multiplied by
FEW_TERMS = 4  # so that powers of lowered coordinates do not outgrow fp32
LARGEST_SQUARE = 255 * 256 - 1  # of two bytes, 255 u + v


class _Side(ctypes.Structure):
    _fields_ = (
        *((name, c_void_p) for name in ("states", "words", "scales", "mean")),
        *((name, c_long) for name in ("batch", "head", "token", "pages")),
    )


def append(
    states: tuple[Tensor, Tensor],
    pages: tuple[Pages, Pages],
    quantizers: tuple[TurboQuantizer, TurboQuantizer],
    center: Center | None,
    cos_sin: tuple[Tensor, Tensor],
) -> None:
    """As `append.append`. Raises NotCompiled as `compiled_cuda.check`."""
    states = tuple(map(_aligned, states))
    batch, heads, tokens, head_dim = states[0].shape
    terms, codings, signs = _tables(*quantizers)
    means = (None, None) if center is None else (center.key_mean, center.value_mean)
    sides = (
        _Side(
            *map(address, (x, side.words, side.scales, mean)),
            *(stride * x.itemsize for stride in x.stride()[:3]),
            side.words.shape[2],
        )
        for x, side, mean in zip(states, pages, means, strict=True)
    )
    most = page_count(tokens - 1) + 1  # pages that new tokens lie in
    warps = _warps(most, 2 * batch * heads)
    groups = -(-most // warps)
    shape = {
        "D": head_dim,
        "BITS": pages[0].bits,
        "TERMS": terms,
        "STATE": DTYPES[states[0].dtype],
        "CENTRED": int(center is not None),
        "WARPS": warps,
        "REGISTERS": REGISTERS[warps],
    }
    compiled_cuda.kernel("quantize", states[0].device, **shape).launch(
        (2 * batch * heads * groups, 1),
        32 * warps,
        _shared(shape),
        _arguments(head_dim, terms)(
            (_Side * 2)(*sides),
            *map(address, (pages[0].length, *cos_sin)),
            codings,
            signs,
            *(heads, tokens, batch * heads, groups),
        ),
    )


def _warps(pages: int, sides: int) -> int:
    """Of a program. pages: of each side of a head."""
    most = max(REGISTERS)
    return most if pages >= most and pages * sides >= FEW_PAGES else 1


@lru_cache(maxsize=16)
def _arguments(head_dim: int, terms: int) -> type[ctypes.Structure]:
    class Coding(ctypes.Structure):
        _fields_ = (
            ("terms", c_float * terms),
            *(("middle", c_float), ("unit", c_float)),
            *(("upper", c_uint * 2), ("lower", c_uint * 2)),
        )

    class Arguments(ctypes.Structure):
        _fields_ = (
            ("sides", _Side * 2),
            *((name, c_void_p) for name in ("length", "cos", "sin")),
            ("codings", Coding * 2),
            ("signs", c_uint * (head_dim // 32)),
            *((name, c_int) for name in ("heads", "tokens", "all_heads", "groups")),
        )

    Arguments.Coding = Coding
    return Arguments


@lru_cache(maxsize=64)
def _tables(keys: TurboQuantizer, values: TurboQuantizer):
    """Terms of both companders, the two codings and the signs of the rotation, for Arguments."""
    halves = [_boundaries(each) for each in (keys, values)]
    fitted = [compander(half, keys.head_dim**0.5) for half in halves]
    terms = max(len(coefficients) for coefficients, _ in fitted)
    arguments = _arguments(keys.head_dim, terms)
    codings = (arguments.Coding * 2)(
        *(
            _coding(arguments.Coding, terms, coefficients, middle, quantizer)
            for (coefficients, middle), quantizer in zip(fitted, (keys, values), strict=True)
        )
    )
    negative = (keys.rotation.matrix[:, 0] < 0).view(-1, 32).tolist()
    signs = [sum(bit << n for n, bit in enumerate(word)) for word in negative]
    return terms, codings, (c_uint * len(signs))(*signs)


def _boundaries(quantizer: TurboQuantizer) -> list[float]:
    """Those above zero, in standard deviations of a coordinate."""
    book = quantizer.codebook
    return [each.item() * quantizer.head_dim**0.5 for each in book.boundaries[2**book.bits // 2 :]]


def _coding(coding, terms, coefficients, middle, quantizer):
    """What the kernel codes one side with. coefficients: of a compander for ‖y‖ = √D."""
    book, width = quantizer.codebook, quantizer.head_dim
    lowered = LOWERED if terms <= FEW_TERMS else 0  # powers are of lowered coordinates
    cells = CELLS / 2**book.bits  # of a code
    numbers = [
        number * cells * width ** (k + 0.5) * 2.0 ** (SMALLEST - LOWERED - 2 * k * lowered)
        for k, number in enumerate(coefficients)
    ]
    squares = [(level.item() * width**0.5) ** 2 for level in book.centroids[2**book.bits // 2 :]]
    unit = LARGEST_SQUARE / squares[-1]
    wholes = [round(square * unit) for square in squares]
    if book.bits < 4:
        wholes = wholes[::-1] + wholes
    wholes += [0] * (8 - len(wholes))
    upper, lower = zip(*(divmod(whole, 255) for whole in wholes), strict=True)
    return coding(
        (c_float * terms)(*numbers),
        middle / width * 2.0 ** (2 * lowered),
        unit**0.5,
        *((c_uint * 2)(*struct.unpack("<2I", bytes(each))) for each in (upper, lower)),
    )


def _aligned(states: Tensor) -> Tensor:
    """The states, copied if a row does not begin where 16 bytes can be copied at once."""
    steps = (states.data_ptr(), *(stride * states.itemsize for stride in states.stride()[:3]))
    if all(each % 16 == 0 for each in steps):
        return states
    return states.clone(memory_format=torch.contiguous_format)


def _shared(shape: dict[str, int]) -> int:
    """Bytes of shared memory of a program, as quantize.cu lays them out."""
    width, warps = shape["D"], shape["WARPS"]
    field = 16 * width * (4 if shape["STATE"] == 32 else 2)
    constants = 32 * width if shape["CENTRED"] else 0
    plane = 8 * width
    tables = width // 16 * 32 * 24 + 8 * width * 4 + shape["BITS"] * plane
    return warps * (field + constants + plane) + tables
