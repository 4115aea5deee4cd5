"""The trellis searched in C: what trellis.py's `search` and `trace` compute, to the last bit.

Hands addresses to c/search.c, whose structure is mirrored here. Knows nothing of levels.
"""

import ctypes
from ctypes import POINTER, byref, c_int64, c_void_p

import torch
from torch import Tensor

from turbo_kv.kernels import native
from turbo_kv.quant.trellis import Walk

BLOCK = 16  # vectors side by side, as in the C


class _Call(ctypes.Structure):
    _fields_ = (
        *((name, c_void_p) for name in ("x", "slopes", "squares", "before", "cost", "came_from")),
        *((name, c_void_p) for name in ("last", "states")),
        *((name, c_int64) for name in ("steps", "count", "threads")),
        ("openmp", c_void_p),
    )


def kernel(bits: int, state_bits: int) -> ctypes.CDLL:
    """The compiled kernel. Raises native.NotCompiled."""
    shape = {"BITS": bits, "STATE_BITS": state_bits, "HEAD_DIM": 16}  # lanes.h wants any head_dim
    library = native.library("search", **shape)
    for function in (library.search, library.trace):
        function.argtypes, function.restype = (POINTER(_Call),), None
    return library


def search(x: Tensor, before: Tensor, slopes: Tensor, squares: Tensor) -> tuple[Tensor, Tensor]:
    """As trellis.search, of contiguous tensors on the CPU; leaves `before` as it was.

    The ways into states lie by blocks of vectors, (N / BLOCK, D, 2^(L-b), BLOCK).
    """
    (steps, count), (ways, older, _) = x.shape, slopes.shape
    cost = x.new_empty(ways * older, count)
    came_from = x.new_empty(-(-count // BLOCK), steps, older, BLOCK, dtype=torch.uint8)
    tensors = {"x": x, "before": before, "slopes": slopes, "squares": squares}
    call = _call(steps, count, cost=cost, came_from=came_from, **tensors)
    _kernel_of(ways, older).search(call)
    return cost, came_from


def trace(state: Tensor, came_from: Tensor, ways: int) -> Tensor:
    """As trellis.trace, of a contiguous state and what `search` gave."""
    _, steps, older, _ = came_from.shape
    states = state.new_empty(steps, len(state))
    call = _call(steps, len(state), came_from=came_from, last=state, states=states)
    _kernel_of(ways, older).trace(call)
    return states


WALK = Walk(search, trace)


def _kernel_of(ways: int, older: int) -> ctypes.CDLL:
    return kernel(ways.bit_length() - 1, (ways * older).bit_length() - 1)


def _call(steps: int, count: int, **tensors: Tensor) -> object:
    addresses = {name: tensor.data_ptr() for name, tensor in tensors.items()}
    threads = {"threads": torch.get_num_threads(), "openmp": native.openmp()}
    return byref(_Call(steps=steps, count=count, **addresses, **threads))
