"""TurboQuant: rotate, code the direction against a codebook, keep one scale per vector.

    y = H D x    c = the codebook's levels for y/‖y‖    s = ‖y‖/‖c‖    x̂ = s·D H c

(arXiv 2504.19874, algorithm 1; with the sketch, algorithm 2.) The scale matches norms, ‖x̂‖ = ‖x‖.
A rotated unit vector looks alike whatever x was, so nothing is fitted to the data. Every vector is
coded alone: its bytes do not depend on its neighbours. Knows nothing of positions, means or models.
"""

import torch
from torch import Tensor

from turbo_kv.quant import codebooks, scales
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.hadamard import HadamardRotation, NoRotation
from turbo_kv.quant.packing import PackedVectors
from turbo_kv.quant.qjl import Sketch

SMALLEST_HEAD = 16
VALUES_AT_ONCE = 2**16  # temporaries that stay in a core's cache
SKETCH_SEEDS = 2**31  # beyond every seed of a rotation, so that the two draws differ


class TurboQuantizer:
    """Codes vectors of `head_dim` coordinates as `config` says; all its tables live on `device`.

    head_dim: even and at least 16; a power of two rotates best (see hadamard.py).
    metric: E[q qᵀ] of the queries that read each head, fp32 (H, D, D), for codebooks that ask for
        one (see query_trellis.py); without it they take all directions for equal.
    Raises ValueError for another head_dim.
    """

    def __init__(
        self,
        head_dim: int,
        config: QuantConfig = QuantConfig(),  # noqa: B008 (frozen)
        device: torch.device | str = "cpu",
        metric: Tensor | None = None,
    ) -> None:
        if head_dim < SMALLEST_HEAD or head_dim % 2:
            raise ValueError(
                f"head_dim is {head_dim}; choose an even one from {SMALLEST_HEAD} up, "
                "such as 64, 80, 96, 128 or 256"
            )
        self.head_dim = head_dim
        self.scale_bits = config.scale_bits
        self.rotation = (
            HadamardRotation(head_dim, config.seed, device) if config.rotation else NoRotation()
        )
        self.codebook = codebooks.make(config, head_dim, device)
        self.head_codebooks: list[codebooks.Codebook] = []  # where each head has its own
        if metric is not None:
            half = self.rotation.rotate(metric.to(device)).mT
            self.head_codebooks = [
                codebooks.make(config, head_dim, device, each)
                for each in self.rotation.rotate(half)
            ]
        self.sketch = Sketch(head_dim, config.seed + SKETCH_SEEDS, device) if config.qjl else None

    def quantize(self, x: Tensor) -> PackedVectors:
        """Code vectors (B, H, T, D), already centred, of any float dtype.

        Raises ValueError for another D, for NaN or infinity, and for norms past the largest scale.
        """
        if x.shape[-1] != self.head_dim:
            raise ValueError(f"vectors of {x.shape[-1]} values; this codes {self.head_dim}")
        books = self.head_codebooks or [self.codebook]
        heads = zip(x.detach().chunk(len(books), 1), books, strict=True)
        columns = zip(*(self._code_heads(*each) for each in heads), strict=True)
        codes, lengths, *sketch = (torch.cat(c, 1) if len(c) > 1 else c[0] for c in columns)
        if scales.too_large(lengths).any():
            raise ValueError(_why_not(x, self.scale_bits))
        signs, residual_norms = sketch or (None, None)
        return PackedVectors(
            codes, lengths, signs, residual_norms, self.codebook.bits, self.head_dim
        )

    def dequantize(self, packed: PackedVectors) -> Tensor:
        """Restore vectors (B, H, T, D), fp32."""
        return self.unrotate(self.dequantize_rotated(packed))

    def dequantize_rotated(self, packed: PackedVectors) -> Tensor:
        """Restore vectors (B, H, T, D), fp32, in the rotated basis.

        ⟨q, k⟩ = ⟨rotate(q), rotated k⟩: attention rotates one query and un-rotates no key.
        """
        restored = self.codebook.decode(packed.codes).mul_(packed.scale_values().unsqueeze(-1))
        if self.sketch is not None:
            restored += self.sketch.restore(packed.signs, scales.read(packed.residual_norms))
        return restored

    def rotate(self, x: Tensor) -> Tensor:
        """Turn vectors (..., D) into the basis of `dequantize_rotated`; fp32."""
        return self.rotation.rotate(x)

    def unrotate(self, y: Tensor) -> Tensor:
        """Turn vectors (..., D) back; fp32."""
        return self.rotation.unrotate(y)

    def _code_heads(self, x: Tensor, codebook: codebooks.Codebook) -> list[Tensor]:
        """What `_code` makes, of vectors (B, H, T, D)."""
        columns = self._code(x.reshape(-1, self.head_dim), codebook)
        return [column.unflatten(0, x.shape[:-1]) for column in columns]

    def _code(self, x: Tensor, codebook: codebooks.Codebook) -> tuple[Tensor, ...]:
        """Codes and scales of vectors (N, D), and with a sketch its signs and residual norms."""
        blocks = x.split(VALUES_AT_ONCE // self.head_dim)
        columns = zip(*(self._code_block(block, codebook) for block in blocks), strict=True)
        return tuple(map(torch.cat, columns))

    def _code_block(self, x: Tensor, codebook: codebooks.Codebook) -> tuple[Tensor, ...]:
        rotated = self.rotation.rotate(x)
        norms = rotated.norm(dim=-1)
        unit = rotated / norms.clamp_min(torch.finfo(torch.float32).tiny).unsqueeze(-1)
        codes = codebook.encode(unit)
        chosen = self.codebook.decode(codes)
        lengths = scales.store(norms / chosen.norm(dim=-1), self.scale_bits)
        if self.sketch is None:
            return codes, lengths
        residual = rotated - chosen * scales.read(lengths).unsqueeze(-1)
        signs, residual_norms = self.sketch.sketch(residual)
        return codes, lengths, signs, scales.store(residual_norms, self.scale_bits)


def _why_not(x: Tensor, scale_bits: int) -> str:
    broken = (~x.isfinite()).any(-1).sum().item()
    if broken:
        return (
            f"{broken} of {x.shape[:-1].numel()} vectors hold NaN or infinity; "
            "find where the model produced them: no code can store them"
        )
    largest = x.cpu().double().norm(dim=-1).max().item()
    return (
        f"the largest norm is {largest:.6g}; its {scale_bits}-bit scale would pass "
        f"{scales.LARGEST[scale_bits]:.0f}; centre the vectors first or scale them down"
    )
