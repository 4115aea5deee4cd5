"""Both sides of one layer in pages on a GPU: one launch codes new tokens, two attend to all.

As `DenseStores` to the outside, and the same codes but for ties. Does not know how pages are
written or read; the kernels do.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import torch

from turbo_kv.cache.coding import Quantizers, code
from turbo_kv.cache.dense import Window
from turbo_kv.cache.rope import RopeTable
from turbo_kv.kernels.append import append
from turbo_kv.kernels.paged import PagedAttention, PagedStates
from turbo_kv.kernels.pages import Pages, empty_pages, page_count, to_dense
from turbo_kv.kernels.states import PackedStates
from turbo_kv.quant.centering import Center
from turbo_kv.quant.packing import storage_bytes

FEWEST_ROWS = 1024  # of the rotary table; they double, and attention's tables are made again


class PagedStores:
    """Keys and values of `length` tokens, appended in place; room grows page by page."""

    def __init__(self, quantizers: Quantizers, rope: RopeTable, nothing: torch.Tensor):
        """Starts empty. nothing: states (B, H_kv, 0, D), which tell batch and device."""
        self.length = 0
        self._quantizers, self._rope, self._device = quantizers, rope, nothing.device
        bits = quantizers[0].codebook.bits
        keys = empty_pages(nothing.shape, bits, "keys", nothing.device)
        values = empty_pages(nothing.shape, bits, "values", nothing.device)
        self._sides = keys, replace(values, length=keys.length, arrived=keys.arrived)

    def append(self, keys: torch.Tensor, values: torch.Tensor, center: Center | None) -> None:
        """As `DenseStores.append`."""
        start, stop = self.length, self.length + keys.shape[2]
        if stop == start:
            return
        if stop > self._sides[0].capacity:
            self._for_both(lambda pages: pages.with_room(stop))
        states = tuple(each.contiguous() for each in (keys, values))
        self._set_length(stop)
        with torch.cuda.device_of(keys):  # kernels launch on the current device
            append(states, self._sides, self._quantizers, _contiguous(center), self._table())
        if not all(pages.token_scales(start, stop).isfinite().all() for pages in self._sides):
            self._set_length(start)
            rotation = self._rope.cos_sin(start, stop, self._device)
            code(keys, values, self._quantizers, center, rotation)  # raises, and says why

    def states(self, center: Center | None, window: Window) -> PackedStates:
        """Everything stored as dense codes, and the exact states after it."""
        keys, values = (to_dense(pages, self.length) for pages in self._sides)
        cos, sin = self._rope.cos_sin(0, self.length, self._device)
        return PackedStates(keys, values, *self._quantizers, center, cos, sin, *window)

    def attended(self, center: Center | None, window: Window) -> PagedStates:
        """Everything stored, as attention reads it."""
        attend = _attention(*self._quantizers, self._rope, self._rows, self._device)
        center = _contiguous(center)
        return PagedStates(
            *self._sides, center, attend, window, lambda: self.states(center, window)
        )

    def crop(self, length: int) -> None:
        """Keep the first `length` tokens and give emptied pages back."""
        self._set_length(min(length, self.length))
        pages = page_count(self.length)
        if pages < self._sides[0].words.shape[2]:
            self._for_both(lambda pages: pages.with_room(self.length))

    def map_batch(self, select: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Replace every tensor by what `select` makes of its batch dimension, the first."""
        self._for_both(lambda pages: pages.map_batch(select))

    def stored(self) -> dict[str, int]:
        """Bytes of storage by purpose, of both sides; `open_page` is the room not filled yet."""
        keys, values = self._sides
        room = max(1, keys.capacity)
        codes = 2 * keys.words.nbytes * self.length // room
        scales = 2 * keys.scales.nbytes * self.length // room
        coded = keys.words, keys.scales, values.words, values.scales
        held = storage_bytes(*coded, keys.length, keys.arrived, values.arrived)
        return {"codes": codes, "scales": scales, "open_page": held - codes - scales}

    def _set_length(self, length: int) -> None:
        self.length = length
        self._sides[0].length.fill_(length)

    def _for_both(self, fn: Callable[[Pages], Pages]) -> None:
        keys, values = self._sides
        self._sides = fn(keys), fn(values)

    @property
    def _rows(self) -> int:
        """Rows of the rotary table that cover every page."""
        return max(FEWEST_ROWS, 1 << (self._sides[0].capacity - 1).bit_length())

    def _table(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self._rope.cos_sin(0, self._rows, self._device)


def _contiguous(center: Center | None) -> Center | None:
    """A bias is one row for all, and kernels read rows of their own."""
    return None if center is None else center.map_batch(torch.Tensor.contiguous)


@lru_cache(maxsize=8)
def _attention(key_quantizer, value_quantizer, rope: RopeTable, rows: int, device: torch.device):
    """One for all layers of all caches that code alike."""
    return PagedAttention(key_quantizer, value_quantizer, *rope.cos_sin(0, rows, device))
