"""Fills the live cache with captured layers, and counts the bytes it holds and the seconds it took.

Bytes are those of storage, counted by the cache. Knows nothing of where the states came from.
"""

from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from turbo_kv.cache.kv_cache import TurboKVCache
from turbo_kv.measure.report import StoredBytes
from turbo_kv.quant.config import QuantConfig

BF16_BYTES = 2


class Storing:
    """A live cache to be filled layer by layer, in order.

    seconds: of centring, rotating, coding, packing and appending. before_bytes: of the states of
    all layers so far in bf16, whatever dtype they come in.
    """

    def __init__(self, config: PreTrainedConfig, quant: QuantConfig):
        self._new = lambda: TurboKVCache(config, quant)
        self.cache = self._new()
        self.seconds = 0.0
        self.before_bytes = 0

    def warm_up(self, keys: Tensor, values: Tensor) -> None:
        """Store states (B, H_kv, T, D) uncounted: a first use makes tables and kernels."""
        self._new().update(keys, values, 0)

    def layer(self, index: int, keys: Tensor, values: Tensor) -> None:
        """Store one layer's states (B, H_kv, T, D)."""
        began = now(keys.device)
        self.cache.update(keys, values, index)
        self.seconds += now(keys.device) - began
        self.before_bytes += BF16_BYTES * (keys.numel() + values.numel())

    def memory(self) -> dict[str, Any]:
        """The bytes before and after, in a report's form."""
        after = self.cache.nbytes
        ratio = self.before_bytes / after
        return {
            "before_bytes": self.before_bytes,
            "after_bytes": after,
            "ratio": ratio,
            "bits_per_value": 8 * BF16_BYTES / ratio,
            "stored": vars(StoredBytes(**self.cache.stored())),
        }


def now(device: torch.device) -> float:
    """The clock in seconds, once the device has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return perf_counter()
