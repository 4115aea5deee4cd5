"""A basis for each head in which a quantizer's error costs attention least, and a code in it.

With Σ = E[x xᵀ] of the centred vectors and M = E[g gᵀ] of what multiplies their errors, a basis A
has A Σ Aᵀ = A⁻ᵀ M A⁻¹ = Λ, diagonal and descending: Λ² are the costs of coordinates coded at equal
widths, so the first quarter takes a bit more than the rest, the last a bit less. Each part is
rotated and scaled by itself: with one scale the gain is lost.

Keys: g are queries q_i, weighted by Σ_j p_ij² ‖W_o (v_j - o_i)‖², how far a score moves the output.
Values: M = Σ W_oᵀ W_o over the queries' heads. Moments come from a prompt's first tokens, or from
the weights alone, for hidden states that are equal and uncorrelated after the norm. Keys and
queries turn with their positions, so their moments are averaged over the first POSITIONS of them.
Not a part of the live cache: calibration.py tells why.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from turbo_kv.cache.capture import LayerCapture
from turbo_kv.cache.query_metric import turned
from turbo_kv.quant.centering import remove_rope
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.packing import PackedVectors
from turbo_kv.quant.quantizer import TurboQuantizer

KEY_SHRINKAGE, VALUE_SHRINKAGE = 0.05, 0.3  # towards isotropy; 256 values are few for 64 axes


@dataclass(frozen=True)
class Moments:
    """Σ and M of a layer's keys, after RoPE, and values: fp32 (H_kv, D, D) each."""

    keys: tuple[Tensor, Tensor]
    values: tuple[Tensor, Tensor]

    def bases(self) -> tuple[Tensor, Tensor]:
        """The bases A of keys and values."""
        return balanced(*self.keys, KEY_SHRINKAGE), balanced(*self.values, VALUE_SHRINKAGE)


def from_prompt(
    layer: LayerCapture, attention: torch.nn.Module, cos_sin: tuple[Tensor, Tensor]
) -> Moments:
    """From captured tokens whose queries were all kept; cos_sin: of at least POSITIONS, (P, D)."""
    keys, values, queries = (each[0].float() for each in (layer.keys, layer.values, layer.queries))
    here = tuple(table[: keys.shape[1]] for table in cos_sin)
    unrotated = remove_rope(keys, *here)
    weights = _score_weights(layer, attention).unsqueeze(-1)  # (H_q, T, 1)
    turned = remove_rope(queries, *here) * weights.sqrt()
    grouped = turned.unflatten(0, (len(keys), -1)).flatten(1, 2)  # (H_kv, G T, D)
    centred = unrotated - unrotated.mean(1, keepdim=True)
    return Moments(
        (turned(_second(centred), cos_sin), turned(_second(grouped), cos_sin)),
        (_second(values - values.mean(1, keepdim=True)), _output_metric(attention)),
    )


def from_weights(
    attention: torch.nn.Module, norm: Tensor, cos_sin: tuple[Tensor, Tensor]
) -> Moments:
    """From the projections and the weight (hidden,) of the norm before them."""

    def second(projection: torch.nn.Linear) -> Tensor:
        rows = projection.weight.detach().float().unflatten(0, (-1, attention.head_dim)) * norm
        return rows @ rows.mT

    queries = second(attention.q_proj)
    if attention.q_proj.bias is not None:
        bias = attention.q_proj.bias.detach().float().view(-1, attention.head_dim)
        queries = queries + bias.unsqueeze(2) * bias.unsqueeze(1)
    keys, values = second(attention.k_proj), second(attention.v_proj)
    queries = queries.unflatten(0, (len(keys), -1)).sum(1)
    return Moments(
        (turned(keys, cos_sin), turned(queries, cos_sin)), (values, _output_metric(attention))
    )


def balanced(covariance: Tensor, metric: Tensor, shrinkage: float) -> Tensor:
    """A with A Σ Aᵀ = A⁻ᵀ M A⁻¹ diagonal and descending; Σ, M (H, D, D), A fp32."""
    sigma, m = (_shrunk(each.double(), shrinkage) for each in (covariance, metric))
    root = torch.linalg.cholesky(m)
    costs, axes = torch.linalg.eigh(root.mT @ sigma @ root)  # ascending
    basis = (axes.mT @ root.mT) * costs.unsqueeze(-1) ** -0.25
    return basis.flip(1).float()


def in_bytes(basis: Tensor) -> tuple[Tensor, int]:
    """A basis (H, D, D) as one byte an entry and an fp16 step a row keep it; bytes that takes."""
    steps = (basis.abs().amax(-1, keepdim=True) / 127).half().float()
    return (basis / steps).round() * steps, basis.numel() + 2 * steps.numel()


class SplitQuantizer:
    """3-bit codes of vectors (B, H, T, D) in the bases (H, D, D): 4, 3 and 2 bits by cost.

    config: its codebook and scale_bits; bits are 3. Codes fill the bytes of plain 3-bit ones,
    scales (B, H, T, 3) are one for each part.
    """

    def __init__(self, basis: Tensor, config: QuantConfig) -> None:
        self.basis, self.inverse = basis.mT, torch.linalg.inv(basis.double()).float().mT
        self.head_dim = basis.shape[-1]
        quarter = self.head_dim // 4
        self.widths = (quarter, 2 * quarter, quarter)
        choices = {"codebook": config.codebook, "scale_bits": config.scale_bits}
        self.parts = [
            TurboQuantizer(width, QuantConfig(bits=bits, **choices), basis.device)
            for width, bits in zip(self.widths, (4, 3, 2))
        ]

    def quantize(self, x: Tensor) -> PackedVectors:
        """Code centred vectors; ValueError as `TurboQuantizer.quantize`."""
        coordinates = (x.float() @ self.basis).split(self.widths, -1)
        packed = [part.quantize(y) for part, y in zip(self.parts, coordinates)]
        codes = torch.cat([each.codes for each in packed], -1)
        scales = torch.stack([each.scales for each in packed], -1)
        return PackedVectors(codes, scales, None, None, 3, self.head_dim)

    def dequantize(self, packed: PackedVectors) -> Tensor:
        """Restore vectors, fp32."""
        sizes = [part.codebook.bits * width // 8 for part, width in zip(self.parts, self.widths)]
        parts = zip(
            self.parts, self.widths, packed.codes.split(sizes, -1), packed.scales.unbind(-1)
        )
        restored = [
            part.dequantize(PackedVectors(codes, scales, None, None, part.codebook.bits, width))
            for part, width, codes, scales in parts
        ]
        return torch.cat(restored, -1) @ self.inverse


def _score_weights(layer: LayerCapture, attention: torch.nn.Module) -> Tensor:
    """Σ_j p_ij² ‖W_o (v_j - o_i)‖² of every query i: (H_q, T)."""
    queries, metric = layer.queries[0].float(), _output_metric(attention, grouped=False)
    group = len(queries) // layer.keys.shape[1]
    keys, values = (
        each[0].float().repeat_interleave(group, 0) for each in (layer.keys, layer.values)
    )
    scores = queries @ keys.mT * layer.scaling
    hidden = torch.ones_like(scores[0], dtype=torch.bool).triu(1)
    attends = scores.masked_fill(hidden, float("-inf")).softmax(-1)  # (H_q, T, T)
    outputs = attends @ values
    of_values, of_outputs = (((x @ metric) * x).sum(-1) for x in (values, outputs))
    both = outputs @ metric @ values.mT
    moved = of_outputs.unsqueeze(2) - 2 * both + of_values.unsqueeze(1)
    return (attends.square() * moved.clamp_min(0)).sum(-1)


def _output_metric(attention: torch.nn.Module, *, grouped: bool = True) -> Tensor:
    """W_oᵀ W_o of every query head (H_q, D, D), or summed over those that share values (H_kv)."""
    columns = attention.o_proj.weight.detach().float().unflatten(1, (-1, attention.head_dim))
    metric = torch.einsum("ohd,ohe->hde", columns, columns)
    groups = attention.num_key_value_groups
    return metric.unflatten(0, (-1, groups)).sum(1) if grouped else metric


def _second(x: Tensor) -> Tensor:
    """E[x xᵀ] over vectors (H, N, D)."""
    return x.mT @ x / x.shape[1]


def _shrunk(second: Tensor, share: float) -> Tensor:
    """Scaled to a mean eigenvalue of one, then drawn towards the identity."""
    size = second.shape[-1]
    mean = second.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
    return (1 - share) * second / mean + share * torch.eye(size, dtype=second.dtype)
