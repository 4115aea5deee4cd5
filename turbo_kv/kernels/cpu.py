"""How a CPU reads packed codes: a window of 8 or 12 bits at a time, by one wide gather.

A window of codes stands for two or four levels, which are one row of the quantizer's table. Seen as
a complex number a row is a single element, and gathering elements is several times faster than
gathering rows; scales stay apart, since D products per vector become one per query. Complex
numbers and int64 shifts keep this off other devices. Does not know attention.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from turbo_kv.kernels.pagewise import dequantized
from turbo_kv.quant.packing import PackedVectors
from turbo_kv.quant.quantizer import TurboQuantizer

ELEMENTS = {2: torch.complex64, 4: torch.complex128}  # a row of so many fp32 levels, as one number
WINDOWS = torch.arange(0, 48, 12)


def expand(quantizer: TurboQuantizer, packed: PackedVectors) -> tuple[Tensor, Tensor | None]:
    """Levels in the rotated basis, fp32 (B, H, T, D), and their scales (B, H, T)."""
    if packed.signs is not None or packed.codes.dtype != torch.uint8:
        return dequantized(quantizer, packed)
    table = quantizer.centroids  # (windows, levels)
    table = table.view(ELEMENTS[table.shape[1]]).view(-1)
    windows = _windows(packed.codes) if packed.bits == 3 else packed.codes.long()
    levels = torch.gather(table, 0, windows.view(-1)).view(torch.float32)
    levels = levels.view(*packed.codes.shape[:3], -1)
    return levels[..., : packed.head_dim], packed.scales.float()


def _windows(codes: Tensor) -> Tensor:
    """The 12-bit windows of bytes (B, H, T, n) in order, int64 (windows,): four to six bytes."""
    if codes.shape[-1] % 6:
        codes = F.pad(codes, (0, -codes.shape[-1] % 6))
    words = F.pad(codes.unflatten(-1, (-1, 6)), (0, 2)).view(torch.int64)  # (..., n / 6, 1)
    return (words >> WINDOWS).bitwise_and_(0xFFF)
