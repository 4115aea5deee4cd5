"""Attention on packed states in C: `pagewise.attention` in one call, which reads every byte once.

Hands addresses to c/attend.c, whose structures are mirrored here. Knows which vectors that can
read, and nothing of how.
"""

import ctypes
from ctypes import POINTER, byref, c_float, c_int64, c_void_p
from functools import lru_cache

import torch
from torch import Tensor

from turbo_kv.kernels import native
from turbo_kv.kernels.states import PackedStates
from turbo_kv.quant.hadamard import HadamardRotation
from turbo_kv.quant.packing import PackedVectors
from turbo_kv.quant.quantizer import TurboQuantizer
from turbo_kv.quant.trellis import TrellisCodebook

MOST_ROWS = 8  # queries that one run through the codes serves


class _Side(ctypes.Structure):
    _fields_ = (
        *((name, c_void_p) for name in ("codes", "scales", "levels", "rotation", "mean")),
        *((name, c_int64) for name in ("code_batch", "code_head", "scale_batch", "scale_head")),
    )


class _Call(ctypes.Structure):
    _fields_ = (
        *(("keys", _Side), ("values", _Side)),
        *((name, c_void_p) for name in ("queries", "cos", "sin", "newest_keys", "newest_values")),
        *((name, c_void_p) for name in ("visible", "added", "output")),
        *((name, c_int64) for name in ("mask_batch", "mask_query")),
        *((name, c_int64) for name in ("batch", "heads", "rows", "length", "slots", "newest")),
        ("threads", c_int64),
        *(("scaling", c_float), ("openmp", c_void_p)),
    )


def kernel(bits: int, head_dim: int, groups: int, state_bits: int = 0) -> ctypes.CDLL:
    """The compiled kernel for `groups` queries per KV head. Raises native.NotCompiled.

    state_bits: of a trellis, or 0 for levels that codes stand for one by one.
    """
    rows = max(rows for rows in range(1, MOST_ROWS + 1) if groups % rows == 0)
    shape = {"BITS": bits, "HEAD_DIM": head_dim, "ROWS": rows, "STATE_BITS": state_bits}
    library = native.library("attend", **shape)
    library.attend.argtypes = (POINTER(_Call),)
    return library


def attention(
    query_states: Tensor,
    states: PackedStates,
    attention_mask: Tensor | None = None,
    scaling: float | None = None,
) -> Tensor:
    """As `reference.attention`, of one slot or more that lie on the CPU.

    Raises native.NotCompiled where there is no kernel, and MemoryError.
    """
    batch, query_heads, length, head_dim = query_states.shape
    heads, slots = states.keys.scales.shape[1:]
    groups = query_heads // heads
    queries = query_states.float().contiguous()
    output = torch.empty_like(queries)
    newest = tuple(each.float().contiguous() for each in (states.exact_keys, states.exact_values))
    mask = _mask(attention_mask, (batch, 1, length, slots + newest[0].shape[2]))
    visible, added = (mask, None) if mask is None or mask.dtype == torch.bool else (None, mask)
    sides = _vectors(states.keys), _vectors(states.values)  # held here while their addresses are
    center = states.center
    means = (None, None) if center is None else (center.key_mean, center.value_mean)
    means = tuple(None if mean is None else mean.float().contiguous() for mean in means)
    keys, values = states.key_quantizer, states.value_quantizer
    call = _Call(
        keys=_side(*sides[0], keys, _turn(keys, "matrix"), means[0]),
        values=_side(*sides[1], values, _turn(values, "inverse"), means[1]),
        queries=queries.data_ptr(),
        cos=states.cos.data_ptr(),
        sin=states.sin.data_ptr(),
        newest_keys=newest[0].data_ptr(),
        newest_values=newest[1].data_ptr(),
        visible=native.address(visible),
        added=native.address(added),
        output=output.data_ptr(),
        mask_batch=0 if mask is None else mask.stride(0),
        mask_query=0 if mask is None else mask.stride(2),
        batch=batch,
        heads=heads,
        rows=groups * length,
        length=length,
        slots=slots,
        newest=newest[0].shape[2],
        threads=torch.get_num_threads(),
        scaling=head_dim**-0.5 if scaling is None else scaling,
        openmp=native.openmp(),
    )
    state_bits = getattr(keys.codebook, "state_bits", 0)
    if kernel(states.keys.bits, head_dim, groups, state_bits).attend(byref(call)):
        raise MemoryError(f"no memory to attend to {slots:,} slots with {groups * length} queries")
    return output


def _mask(mask: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
    """A mask of bools or fp32 whose slots lie side by side."""
    if mask is None:
        return None
    mask = (mask if mask.dtype == torch.bool else mask.float()).expand(shape)
    return mask if mask.stride(-1) == 1 else mask.contiguous()


def _vectors(packed: PackedVectors) -> tuple[Tensor, Tensor]:
    """Codes and fp32 scales; the tokens of a head lie side by side."""
    codes, scales = packed.codes, packed.scale_values()
    size = codes.shape[-1]
    codes = codes if codes.stride()[2:] == (size, 1) else codes.contiguous()
    return codes, scales if scales.stride(2) == 1 else scales.contiguous()


def _turn(quantizer: TurboQuantizer, name: str) -> Tensor | None:
    rotation = quantizer.rotation
    return getattr(rotation, name) if isinstance(rotation, HadamardRotation) else None


def _side(
    codes: Tensor,
    scales: Tensor,
    quantizer: TurboQuantizer,
    rotation: Tensor | None,
    mean: Tensor | None,
) -> _Side:
    return _Side(
        *(codes.data_ptr(), scales.data_ptr(), _levels(quantizer).data_ptr()),
        *(native.address(rotation), native.address(mean)),
        *(*codes.stride()[:2], *scales.stride()[:2]),
    )


@lru_cache(maxsize=64)
def _levels(quantizer: TurboQuantizer) -> Tensor:
    """The level of every code, repeated to fill a table of 16, or of every state; fp32."""
    if isinstance(quantizer.codebook, TrellisCodebook):
        return quantizer.codebook.levels
    centroids = quantizer.codebook.centroids
    return centroids.repeat(16 // len(centroids))
