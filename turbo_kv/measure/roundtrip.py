"""One layer's keys and values into packed storage and back, and the bytes they took there.

Knows the order of the steps (centre, quantize, restore, add the centre back) and none of them.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch

from turbo_kv.cache.capture import Capture, LayerCapture
from turbo_kv.cache.query_metric import NO_QUERY_METRIC
from turbo_kv.kernels.choose import searching
from turbo_kv.measure.report import StoredBytes
from turbo_kv.quant.centering import Center
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.quantizer import TurboQuantizer


@dataclass(frozen=True)
class Roundtrip:
    """Restored states, fp32 (B, H_kv, T, D), and what held them in between."""

    keys: torch.Tensor
    values: torch.Tensor
    stored: StoredBytes


def roundtrip(capture: Capture, index: int, config: QuantConfig) -> Roundtrip:
    """Store one captured layer as `config` says, then restore it.

    Raises ValueError naming the layer: for centering "bias" in a model without biases, and for
    what the quantizer refuses.
    """
    try:
        return _roundtrip(capture, index, config)
    except ValueError as error:
        raise ValueError(f"layer {index}: {error}") from error


def _roundtrip(capture: Capture, index: int, config: QuantConfig) -> Roundtrip:
    layer = capture.layers[index]
    keys, values = layer.keys.float(), layer.values.float()
    # Layers may lie on different devices.
    cos, sin = capture.cos.to(keys.device), capture.sin.to(keys.device)
    center = _center(capture, index, config)
    key_offset = 0.0 if center is None else center.key_offset(cos, sin)  # (B, H_kv, T, D)
    value_offset = 0.0 if center is None else center.value_offset()  # (B, H_kv, 1, D)

    metric = _query_metric(layer, config)
    restored, stored = [], StoredBytes(means=_stored_means(center, config))
    for states, offset, choices, heeded in (
        (keys, key_offset, config, metric),
        (values, value_offset, config.for_values, None),
    ):
        quantizer = (
            _quantizer(keys.shape[-1], choices, keys.device)
            if heeded is None
            else searching(TurboQuantizer(keys.shape[-1], choices, keys.device, heeded))
        )
        packed = quantizer.quantize(states - offset)
        restored.append(quantizer.dequantize(packed).add_(offset))
        stored += StoredBytes(**packed.stored())
    return Roundtrip(*restored, stored)


@lru_cache(maxsize=8)
def _quantizer(head_dim: int, config: QuantConfig, device: torch.device) -> TurboQuantizer:
    """One quantizer serves every layer: making its tables takes longer than using them."""
    return searching(TurboQuantizer(head_dim, config, device))


def _query_metric(layer: LayerCapture, config: QuantConfig) -> torch.Tensor | None:
    if config.codebook != "query-trellis":
        return None
    if layer.query_metric is None:
        raise ValueError(NO_QUERY_METRIC)
    return layer.query_metric


def _center(capture: Capture, index: int, config: QuantConfig) -> Center | None:
    layer = capture.layers[index]
    if config.centering == "mean":
        cos, sin = (table.to(layer.keys.device) for table in (capture.cos, capture.sin))
        return Center.from_mean(layer.keys.float(), layer.values.float(), cos, sin)
    if config.centering == "bias":
        if layer.key_bias is None or layer.value_bias is None:
            raise ValueError(
                "centering is 'bias', but the key or value projection adds none; "
                "choose 'mean' or 'off'"
            )
        return Center.from_bias(layer.key_bias, layer.value_bias, len(layer.keys))
    return None


def _stored_means(center: Center | None, config: QuantConfig) -> int:
    """A mean is stored with the cache; a bias already lies among the weights."""
    return center.nbytes if center is not None and config.centering == "mean" else 0
