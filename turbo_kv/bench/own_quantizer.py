"""A live cache whose vectors are coded by a quantizer of one's own. Knows nothing of which."""

from collections.abc import Callable
from dataclasses import replace

import torch
from transformers import PreTrainedConfig

from turbo_kv.cache.kv_cache import TurboKVCache
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.quantizer import TurboQuantizer

Make = Callable[[int, torch.device], TurboQuantizer]  # head_dim, device


def own_cache(config: PreTrainedConfig, quant: QuantConfig, make: Make) -> TurboKVCache:
    """A cache that reads every token back, with one quantizer of `make` for keys and values."""
    cache = TurboKVCache(config, quant, read_back=True)

    def quantizers(device: torch.device) -> tuple[TurboQuantizer, TurboQuantizer]:
        return (quantizer := make(cache.plan.head_dim, device)), quantizer

    cache.plan = replace(cache.plan, quantizers=quantizers)
    for layer in cache.layers:
        layer.plan = cache.plan
    return cache
