"""How a CPU reads packed codes: a window of 8 or 12 bits at a time, by wide gathers.

A window of codes stands for two or four levels, one row of the quantizer's table. Seen as a complex
number a row is a single element, and gathering elements is several times faster than gathering
rows. 3-bit codes come as words of 48 bits, four windows of four codes each; shifting all words at
once by the same number of bits gives one plane per window,

    plane w holds coordinates 16 i + 4 w + (0, 1, 2, 3) of every vector, i < D / 16,

and reordering one query or one output so is cheaper than reordering every vector. Scales stay
apart: D products per vector become one per query. Complex numbers and int64 shifts keep this off
other devices.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from turbo_kv.kernels import pagewise
from turbo_kv.quant.packing import PackedVectors
from turbo_kv.quant.quantizer import TurboQuantizer
from turbo_kv.quant.scalar import ScalarCodebook

ELEMENTS = {2: torch.complex64, 4: torch.complex128}  # a row of so many fp32 levels, as one number
SHIFTS = torch.arange(0, 48, 12).unsqueeze(1)


def dot(queries: Tensor, quantizer: TurboQuantizer, packed: PackedVectors) -> Tensor:
    """As `pagewise.dot`."""
    if not _is_planar(quantizer, packed):
        return pagewise.dot(queries, quantizer, packed)
    planes = _planes(quantizer, packed)  # (W, B, H, T, D / W)
    width = quantizer.codebook.windows.shape[1]
    queries = queries.unflatten(-1, (-1, len(planes), width)).movedim(-2, 0).flatten(-2)
    return (queries @ planes.mT).sum(0).mul_(packed.scale_values().unsqueeze(2))


def mix(weights: Tensor, quantizer: TurboQuantizer, packed: PackedVectors) -> Tensor:
    """As `pagewise.mix`."""
    if not _is_planar(quantizer, packed):
        return pagewise.mix(weights, quantizer, packed)
    planes = _planes(quantizer, packed)
    width = quantizer.codebook.windows.shape[1]
    mixed = (weights * packed.scale_values().unsqueeze(2)) @ planes  # (W, B, H, R, D / W)
    return mixed.unflatten(-1, (-1, width)).movedim(0, -2).flatten(-3)


def _is_planar(quantizer: TurboQuantizer, packed: PackedVectors) -> bool:
    """Whether codes fill whole words, are all there is, and each means a level by itself."""
    whole = packed.bits in (2, 3, 4) and packed.head_dim % 16 == 0 and packed.signs is None
    return whole and isinstance(quantizer.codebook, ScalarCodebook)


def _planes(quantizer: TurboQuantizer, packed: PackedVectors) -> Tensor:
    """Levels without their scales, fp32 (W, B, H, T, D / W): one plane per window of a word."""
    if packed.bits == 3:
        words = F.pad(packed.codes.unflatten(-1, (-1, 6)), (0, 2)).view(torch.int64)
        windows = (words.view(1, -1) >> SHIFTS).bitwise_and_(0xFFF)
    else:
        windows = packed.codes.reshape(1, -1).long()
    table = quantizer.codebook.windows  # (windows, levels)
    table = table.view(ELEMENTS[table.shape[1]]).view(1, -1).expand(len(windows), -1)
    levels = torch.gather(table, 1, windows).view(torch.float32)
    return levels.view(len(windows), *packed.scales.shape, -1)
