"""One layer's stored keys and values, as attention reads them.

Knows how stored vectors become states again. Does not know who stored them, nor transformers.

    key of slot j    R(j) μ_k + dequantize(keys)_j        R(j): the rotary embedding of slot j
    value of slot j       μ_v + dequantize(values)_j
"""

from dataclasses import dataclass

import torch

from turbo_kv.quant.centering import Center
from turbo_kv.quant.packing import PackedVectors
from turbo_kv.quant.quantizer import TurboQuantizer


@dataclass(frozen=True, eq=False)
class PackedStates:
    """Packed slots 0 to T - 1 and, after them, W exact ones. No tensor, so misuse fails loudly.

    keys, values: the packed slots (B, H_kv, T, ·), centred by `center` if there is one.
    cos, sin: of the packed slots, fp32 (T, D).
    exact_keys, exact_values: (B, H_kv, W, D) of any float dtype, W >= 0.
    """

    keys: PackedVectors
    values: PackedVectors
    key_quantizer: TurboQuantizer
    value_quantizer: TurboQuantizer
    center: Center | None
    cos: torch.Tensor
    sin: torch.Tensor
    exact_keys: torch.Tensor
    exact_values: torch.Tensor

    def restore(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Every key and value, fp32 (B, H_kv, T + W, D)."""
        keys = self.key_quantizer.dequantize(self.keys)
        values = self.value_quantizer.dequantize(self.values)
        if self.center is not None:
            keys += self.center.key_offset(self.cos, self.sin)
            values += self.center.value_offset()
        return (
            torch.cat((keys, self.exact_keys.float()), dim=2),
            torch.cat((values, self.exact_values.float()), dim=2),
        )
