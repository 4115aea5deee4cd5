"""Packed vectors appended in place, into storage that grows page by page.

A page is room for 64 vectors per head; room past `length` holds anything and is never read.
Does not know what the vectors mean: their centre and their positions are the layer's.
"""

from collections.abc import Callable
from dataclasses import fields

import torch

from turbo_kv.quant.packing import PackedVectors

PAGE = 64


class PackedStore:
    """The keys or the values of one layer: `length` packed vectors (B, H_kv, length, ·)."""

    def __init__(self, first: PackedVectors):
        """Starts with `first`, which may be empty but knows its shapes."""
        self.length = first.seq_len
        self._pages = _with_room(first, self.length)

    @property
    def packed(self) -> PackedVectors:
        """What is stored, as views."""
        return self._pages.slice(0, self.length)

    @property
    def nbytes(self) -> int:
        """Bytes of storage, filled or not."""
        return self._pages.nbytes

    def append(self, packed: PackedVectors) -> None:
        """Write packed vectors (B, H_kv, T, ·) behind those stored."""
        start, self.length = self.length, self.length + packed.seq_len
        if self.length > self._pages.seq_len:
            self._pages = _with_room(self._pages, self.length)
        rows = tensors(packed)
        for name, page in tensors(self._pages).items():
            page[:, :, start : self.length] = rows[name]

    def crop(self, length: int) -> None:
        """Keep the first `length` vectors and give emptied pages back."""
        self.length = min(length, self.length)
        if _room(self.length) < self._pages.seq_len:
            self._pages = _with_room(self._pages, self.length)

    def map_batch(self, select: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Replace every tensor by what `select` makes of its batch dimension, the first."""
        self._pages = self._pages.map_batch(select)

    def stored(self) -> dict[str, int]:
        """Bytes by purpose; `open_page` is the room not filled yet."""
        filled = {
            name: tensor.numel() * tensor.element_size()
            for name, tensor in tensors(self.packed).items()
        }
        return {**filled, "open_page": self.nbytes - sum(filled.values())}


def tensors(packed: PackedVectors) -> dict[str, torch.Tensor]:
    """The tensors that packed vectors consist of, by name."""
    parts = {field.name: getattr(packed, field.name) for field in fields(packed)}
    return {name: part for name, part in parts.items() if isinstance(part, torch.Tensor)}


def _room(length: int) -> int:
    return -(-length // PAGE) * PAGE


def _with_room(packed: PackedVectors, length: int) -> PackedVectors:
    """The first `length` vectors at the start of storage for whole pages."""

    def resize(tensor: torch.Tensor) -> torch.Tensor:
        batch, heads, _, *rest = tensor.shape
        pages = tensor.new_empty(batch, heads, _room(length), *rest)
        kept = min(length, tensor.shape[2])
        pages[:, :, :kept] = tensor[:, :, :kept]
        return pages

    return packed.map_batch(resize)
