"""States to packed vectors: take off what they have in common, code the rest.

The same for the first token of a prompt and the last one generated. Does not know where the packed
vectors are kept.
"""

from contextlib import suppress
from operator import itemgetter

import torch

from turbo_kv.quant.centering import Center
from turbo_kv.quant.packing import PackedVectors
from turbo_kv.quant.quantizer import TurboQuantizer

Quantizers = tuple[TurboQuantizer, TurboQuantizer]  # of keys and of values, perhaps one for both


def code(
    keys: torch.Tensor,
    values: torch.Tensor,
    quantizers: Quantizers,
    center: Center | None,
    rotation: tuple[torch.Tensor, torch.Tensor],
) -> tuple[PackedVectors, PackedVectors]:
    """Packed keys and values of states (B, H_kv, T, D), post-RoPE, of any float dtype.

    rotation: cosines and sines of their slots, fp32 (T, D).
    Raises ValueError for NaN, infinity, and norms beyond fp16; it names the side.
    """
    if center is not None:
        keys = keys.float() - center.key_offset(*rotation)
        values = values.float() - center.value_offset()
    of_keys, of_values = quantizers
    if of_keys is of_values:  # coding both at once takes little longer than coding one
        with suppress(ValueError):  # raised again below, where it is known which side it is about
            both, batch = of_keys.quantize(torch.cat((keys, values))), len(keys)
            return (
                both.map_batch(itemgetter(slice(batch))),
                both.map_batch(itemgetter(slice(batch, None))),
            )
    return _named("keys", of_keys, keys), _named("values", of_values, values)


def _named(side: str, quantizer: TurboQuantizer, vectors: torch.Tensor) -> PackedVectors:
    try:
        return quantizer.quantize(vectors)
    except ValueError as error:
        raise ValueError(f"{side}: {error}") from error
