"""The quantizer whose coding is compiled C: one pass over the vectors, instead of twenty.

The same codes and scales as `TurboQuantizer`'s but for coordinates that touch a boundary within
rounding: the rotation adds in another order. A vector's bytes depend on neither its neighbours nor
threads. Hands addresses to c/quantize.c, whose structure is mirrored here.
"""

import ctypes
from ctypes import POINTER, byref, c_int64, c_void_p

import torch
from torch import Tensor

from turbo_kv.kernels import native
from turbo_kv.quant import scales
from turbo_kv.quant.codebooks import Codebook
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.hadamard import HadamardRotation, blocks
from turbo_kv.quant.quantizer import TurboQuantizer


class _Call(ctypes.Structure):
    _fields_ = (
        *((name, c_void_p) for name in ("vectors", "signs", "boundaries", "levels")),
        *(("codes", c_void_p), ("scales", c_void_p)),
        *(("count", c_int64), ("threads", c_int64), ("openmp", c_void_p)),
    )


def kernel(bits: int, head_dim: int) -> ctypes.CDLL:
    """The compiled kernel. Raises native.NotCompiled."""
    library = native.library("quantize", BITS=bits, HEAD_DIM=head_dim)
    library.quantize.argtypes, library.quantize.restype = (POINTER(_Call),), None
    return library


class NativeQuantizer(TurboQuantizer):
    """`TurboQuantizer` on the CPU, for what `choose` says that C codes; copied as any other is."""

    def __init__(self, head_dim: int, config: QuantConfig) -> None:
        super().__init__(head_dim, config)
        self._signs = _signs(self.rotation, head_dim)
        self._boundaries = torch.stack(self.codebook.boundaries)
        self._levels = self.codebook.centroids.repeat(16 >> self.codebook.bits)

    def _code(self, x: Tensor, codebook: Codebook) -> tuple[Tensor, ...]:
        vectors = x.float().contiguous()
        codes = vectors.new_empty(
            len(x), self.head_dim // 8 * self.codebook.bits, dtype=torch.uint8
        )
        lengths = vectors.new_empty(len(x))
        call = _Call(
            *(vectors.data_ptr(), native.address(self._signs), self._boundaries.data_ptr()),
            *(self._levels.data_ptr(), codes.data_ptr(), lengths.data_ptr()),
            *(len(x), torch.get_num_threads(), native.openmp()),
        )
        kernel(self.codebook.bits, self.head_dim).quantize(byref(call))
        return codes, scales.store(lengths, self.scale_bits)


def _signs(rotation: object, head_dim: int) -> Tensor | None:
    """The signs that come before the transform: every block's matrix is positive in column 0."""
    if not isinstance(rotation, HadamardRotation):
        return None
    sizes = blocks(head_dim)
    starts = torch.tensor([sum(sizes[:i]) for i in range(len(sizes))])
    columns = starts.repeat_interleave(torch.tensor(sizes))
    return rotation.matrix.gather(1, columns.unsqueeze(1)).squeeze(1).sign().contiguous()
