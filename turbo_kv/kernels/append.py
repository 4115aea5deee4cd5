"""New keys and values of one layer, centred, rotated, coded and written into pages: one launch.

The only door to the kernels that code: CUDA C's where it can be, and else Triton's. Knows neither
who owns the pages nor how they are written.
"""

from torch import Tensor

from turbo_kv.kernels import quantize_cuda, quantize_triton
from turbo_kv.kernels.choose import why_not_cuda_c
from turbo_kv.kernels.pages import Pages
from turbo_kv.quant.centering import Center
from turbo_kv.quant.quantizer import TurboQuantizer


def append(
    states: tuple[Tensor, Tensor],
    pages: tuple[Pages, Pages],
    quantizers: tuple[TurboQuantizer, TurboQuantizer],
    center: Center | None,
    cos_sin: tuple[Tensor, Tensor],
) -> None:
    """Code keys and values as the newest T of the `length` tokens of their pages.

    Whoever calls has added T to the length already; there must be room for them. Codes are those
    of the quantizers on centred states, but for ties; scales may differ in their last bit.
    states: keys and values (B, H, T, D), both fp16, bf16 or fp32, channels contiguous, on the
    current device.
    pages: of keys and of values, of equal bits and with one length.
    quantizers: of keys and of values, of one rotation.
    cos_sin: of every slot there is room for, fp32 (capacity, D), rows contiguous.
    """
    kernel = quantize_cuda if why_not_cuda_c(states[0].device) is None else quantize_triton
    kernel.append(states, pages, quantizers, center, cos_sin)
