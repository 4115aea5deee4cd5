"""The quantizer for a CPU with a C++ compiler: compares, levels and packing in one compiled loop.

The same codes and scales as the reference, bit for bit: rotation and norms stay its own operations,
and what is compiled adds nothing up in fp32. Codes are counted in int32 and kept in bytes; eight of
them are one 64-bit word, in which three shifts move them together:

    -----hhh-----ggg ... -----aaa   ->   hhhgggfffeeedddcccbbbaaa    (3 bits)

Compiling takes tens of seconds, so this pays for bulk work, not for a click. Knows no other device.
"""

from functools import partial
from shutil import which

import torch
from torch import Tensor

from turbo_kv.quant import scales
from turbo_kv.quant.codebooks import Codebook
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.quantizer import VALUES_AT_ONCE, TurboQuantizer
from turbo_kv.quant.scalar import ScalarCodebook

COMPILERS = ("g++", "clang++", "c++", "cl")


def why_not(config: QuantConfig, head_dim: int) -> str | None:
    """Why a CPU does not run this for a config; None if it can."""
    if not any(map(which, COMPILERS)):
        return f"no C++ compiler ({', '.join(COMPILERS)}) was found"
    if config.qjl:
        return "a QJL sketch takes longer than the codes"
    if config.codebook not in ("lloyd-max", "fast"):
        return f"{config.codebook} codes are searched, not compared"
    if head_dim % 8:
        return f"head_dim is {head_dim}, not a multiple of 8"
    return None


class CompiledQuantizer(TurboQuantizer):
    """`TurboQuantizer` on the CPU, compiled at its first full block of rows; others it leaves.

    Raises ValueError, saying why, where `why_not` does.
    """

    def __init__(self, head_dim: int, config: QuantConfig = QuantConfig()) -> None:  # noqa: B008
        reason = why_not(config, head_dim)
        if reason is not None:
            raise ValueError(f"cannot compile the quantizer: {reason}; use TurboQuantizer")
        super().__init__(head_dim, config)
        code = partial(_cells_and_levels, *_numbers(self.codebook))
        self._code = torch.compile(code, dynamic=False, fullgraph=True)
        self._join = torch.compile(partial(_join, self.codebook.bits), dynamic=False)

    def _quantize_rows(self, x: Tensor, codebook: Codebook) -> tuple[Tensor, ...]:
        if len(x) != VALUES_AT_ONCE // self.head_dim:
            return super()._quantize_rows(x, codebook)
        rotated = self.rotation.rotate(x)
        norms = rotated.norm(dim=-1)
        cells, chosen = self._code(rotated, norms)
        words = self._join(cells.view(torch.int64))  # (N, D / 8)
        codes = words.view(torch.uint8).unflatten(-1, (-1, 8))[..., : self.codebook.bits]
        lengths = scales.store(norms / chosen.norm(dim=-1), self.scale_bits)
        return codes.flatten(-2), lengths


def _numbers(codebook: ScalarCodebook) -> tuple[list[float], list[float]]:
    """Boundaries and levels as constants of the compiled code; each is an fp32 number."""
    return [each.item() for each in codebook.boundaries], codebook.centroids.tolist()


def _cells_and_levels(
    boundaries: list[float], levels: list[float], rotated: Tensor, norms: Tensor
) -> tuple[Tensor, Tensor]:
    """Codes, uint8, and their levels, fp32, of rotated vectors (N, D) of the norms (N,)."""
    unit = rotated / norms.clamp_min(torch.finfo(torch.float32).tiny).unsqueeze(-1)
    cells = torch.zeros_like(unit, dtype=torch.int32)
    chosen = torch.full_like(unit, levels[0])
    for boundary, level in zip(boundaries, levels[1:]):
        above = unit > boundary
        cells = cells + above.to(torch.int32)
        chosen = torch.where(above, level, chosen)
    return cells.to(torch.uint8), chosen


def _join(bits: int, words: Tensor) -> Tensor:
    """Eight codes in the bytes of each int64 as the lowest 8·bits bits."""
    for lane in (16, 32, 64):
        held = bits * lane // 8  # bits of a lane that hold codes once two halves are joined
        words = words | words >> (lane // 2 - held // 2)
        if lane < 64:
            words = words & _every(lane, (1 << held) - 1)
    return words


def _every(lane: int, mask: int) -> int:
    """A mask in every lane of a 64-bit word."""
    return sum(mask << start for start in range(0, 64, lane))
