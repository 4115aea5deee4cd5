"""Both sides of one layer as dense codes: the store of every device without a kernel for pages.

Codes states and keeps them. Does not know when to code, nor what stays exact.
"""

from collections.abc import Callable

import torch

from turbo_kv.cache.coding import Quantizers, code
from turbo_kv.cache.rope import RopeTable
from turbo_kv.cache.store import PackedStore
from turbo_kv.kernels.states import PackedStates
from turbo_kv.quant.centering import Center

Window = tuple[torch.Tensor, torch.Tensor]  # exact keys and values (B, H_kv, W, D)


class DenseStores:
    """Keys and values of `length` tokens."""

    def __init__(self, quantizers: Quantizers, rope: RopeTable, nothing: torch.Tensor):
        """Starts empty. nothing: states (B, H_kv, 0, D), which tell batch and device."""
        self._quantizers, self._rope, self._device = quantizers, rope, nothing.device
        self._sides = tuple(PackedStore(each.quantize(nothing)) for each in quantizers)

    @property
    def length(self) -> int:
        """Tokens stored."""
        return self._sides[0].length

    def append(self, keys: torch.Tensor, values: torch.Tensor, center: Center | None) -> None:
        """Code states (B, H_kv, T, D) of the next T slots and store them.

        Raises ValueError, and stores nothing, for NaN, infinity, and norms beyond fp16.
        """
        rotation = self._rope.cos_sin(self.length, self.length + keys.shape[2], self._device)
        packed = code(keys, values, self._quantizers, center, rotation)
        for side, vectors in zip(self._sides, packed):
            side.append(vectors)

    def states(self, center: Center | None, window: Window) -> PackedStates:
        """Everything stored, as views, and the exact states after it."""
        cos, sin = self._rope.cos_sin(0, self.length, self._device)
        keys, values = (side.packed for side in self._sides)
        return PackedStates(keys, values, *self._quantizers, center, cos, sin, *window)

    attended = states

    def crop(self, length: int) -> None:
        """Keep the first `length` tokens and give emptied pages back."""
        for side in self._sides:
            side.crop(length)

    def map_batch(self, select: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Replace every tensor by what `select` makes of its batch dimension, the first."""
        for side in self._sides:
            side.map_batch(select)

    def stored(self) -> dict[str, int]:
        """Bytes of storage by purpose, of both sides together."""
        keys, values = (side.stored() for side in self._sides)
        return {name: keys.get(name, 0) + values.get(name, 0) for name in {**keys, **values}}
