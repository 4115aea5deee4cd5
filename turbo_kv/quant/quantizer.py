"""TurboQuant: rotate, code every coordinate against one codebook, keep one scale per vector.

    y = H D x    c_i = centroid nearest to y_i/‖y‖    s = ‖y‖/‖c‖ in fp16    x̂ = s·D H c

(arXiv 2504.19874, algorithm 1; with the sketch, algorithm 2.) The scale matches norms, ‖x̂‖ = ‖x‖.
A rotated unit vector looks alike whatever x was, so nothing is fitted to the data. Every vector is
coded alone: its bytes do not depend on its neighbours. Knows nothing of positions, means or models.
"""

import torch
from torch import Tensor

from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.hadamard import HadamardRotation, NoRotation
from turbo_kv.quant.lloyd_max import codebook
from turbo_kv.quant.packing import PackedVectors, look_up, pack, window_table
from turbo_kv.quant.qjl import Sketch

SMALLEST_HEAD = 16
SKETCH_SEEDS = 2**31  # beyond every seed of a rotation, so that the two draws differ


class TurboQuantizer:
    """Codes vectors of `head_dim` coordinates as `config` says; all its tables live on `device`.

    head_dim: even and at least 16; a power of two rotates best (see hadamard.py).
    Raises ValueError for another head_dim.
    """

    def __init__(
        self,
        head_dim: int,
        config: QuantConfig = QuantConfig(),  # noqa: B008 (frozen)
        device: torch.device | str = "cpu",
    ) -> None:
        if head_dim < SMALLEST_HEAD or head_dim % 2:
            raise ValueError(
                f"head_dim is {head_dim}; choose an even one from {SMALLEST_HEAD} up, "
                "such as 64, 80, 96, 128 or 256"
            )
        self.head_dim = head_dim
        self.bits = config.codebook_bits
        self.rotation = (
            HadamardRotation(head_dim, config.seed, device) if config.rotation else NoRotation()
        )
        book = codebook(self.bits, head_dim)
        self.boundaries = book.boundaries.tolist()
        self.centroids = window_table(book.centroids.to(device), self.bits)
        self.sketch = Sketch(head_dim, config.seed + SKETCH_SEEDS, device) if config.qjl else None

    def quantize(self, x: Tensor) -> PackedVectors:
        """Code vectors (B, H, T, D), already centred, of any float dtype.

        Raises ValueError for NaN or infinity, and for norms beyond fp16.
        """
        rotated = self.rotation.rotate(x)  # (B, H, T, D)
        norms = rotated.norm(dim=-1, keepdim=True)
        codes = self._pack_codes(rotated / norms.clamp_min(torch.finfo(torch.float32).tiny))
        chosen = self._look_up(codes)
        scales = (norms / chosen.norm(dim=-1, keepdim=True)).half()
        if not scales.isfinite().all():
            raise ValueError(_why_not(x))
        signs = residual_norms = None
        if self.sketch is not None:
            signs, residual_norms = self.sketch.sketch(rotated - scales * chosen)
        return PackedVectors(
            codes, scales.squeeze(-1), signs, residual_norms, self.bits, self.head_dim
        )

    def dequantize(self, packed: PackedVectors) -> Tensor:
        """Restore vectors (B, H, T, D), fp32."""
        return self.unrotate(self.dequantize_rotated(packed))

    def dequantize_rotated(self, packed: PackedVectors) -> Tensor:
        """Restore vectors (B, H, T, D), fp32, in the rotated basis.

        ⟨q, k⟩ = ⟨rotate(q), rotated k⟩: attention rotates one query and un-rotates no key.
        """
        restored = self._look_up(packed.codes).mul_(packed.scales.float().unsqueeze(-1))
        if self.sketch is not None:
            restored += self.sketch.restore(packed.signs, packed.residual_norms)
        return restored

    def rotate(self, x: Tensor) -> Tensor:
        """Turn vectors (..., D) into the basis of `dequantize_rotated`; fp32."""
        return self.rotation.rotate(x)

    def unrotate(self, y: Tensor) -> Tensor:
        """Turn vectors (..., D) back; fp32."""
        return self.rotation.unrotate(y)

    def _pack_codes(self, unit: Tensor) -> Tensor:
        """Pack, for every coordinate, how many boundaries lie below it."""
        codes = torch.zeros_like(unit, dtype=torch.uint8)
        for boundary in self.boundaries:
            codes += unit > boundary
        return pack(codes, self.bits)

    def _look_up(self, codes: Tensor) -> Tensor:
        return look_up(codes, self.bits, self.centroids, self.head_dim)


def _why_not(x: Tensor) -> str:
    broken = (~x.isfinite()).any(-1).sum().item()
    if broken:
        return (
            f"{broken} of {x.shape[:-1].numel()} vectors hold NaN or infinity; "
            "find where the model produced them: no code can store them"
        )
    largest = x.float().norm(dim=-1).max().item()
    return (
        f"the largest norm is {largest:.4g}, beyond the {torch.finfo(torch.float16).max:.0f} that "
        "an fp16 scale holds; centre the vectors first or scale them down"
    )
