"""The quantizer that changes nothing: the control of every ablation, and of the cache itself.

Has `TurboQuantizer`'s verbs, so that a cache with it runs the same code and must give a model's
own tokens. Stores fp32 in place of codes, which `nbytes` shows.
"""

import torch

from turbo_kv.quant.packing import PackedVectors


class ExactQuantizer:
    """Keeps vectors (B, H, T, D) as they are, in fp32."""

    def __init__(self, head_dim: int):
        self.head_dim = head_dim

    def quantize(self, x: torch.Tensor) -> PackedVectors:
        """Vectors of any float dtype as fp32 "codes" with scales of one."""
        return PackedVectors(
            codes=x.float().clone(),
            scales=torch.ones(x.shape[:-1], dtype=torch.float16, device=x.device),
            signs=None,
            residual_norms=None,
            bits=32,
            head_dim=self.head_dim,
        )

    def dequantize(self, packed: PackedVectors) -> torch.Tensor:
        """A copy of the vectors, fp32 (B, H, T, D)."""
        return packed.codes.clone()

    def dequantize_rotated(self, packed: PackedVectors) -> torch.Tensor:
        """The vectors: their rotation is the identity."""
        return packed.codes

    def rotate(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def unrotate(self, y: torch.Tensor) -> torch.Tensor:
        return y
