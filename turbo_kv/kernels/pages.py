"""Codes laid out for a GPU: one 16-bit word holds a channel of several tokens, 16 rows apart.

A page is 16·F tokens of one KV head, `words[page, j, d]` with 16 rows j. Field s of a word is the
code of token 16·F·page + 16·s + j in channel d (bit 15 on the left, letters name fields):

    3 bits, F = 5    eeedddcccbbbaaa-    field s from bit 3s + 1; bit 0 is spare
    2 bits, F = 8    hhggffeeddccbbaa    field s from bit 2s
    4 bits, F = 4    ddddccccbbbbaaaa    field s from bit 4s

so one field of a page is a (16, D) tile of other tokens and the same channels, which a matrix unit
takes without moving a value between lanes. Scales lie apart, in the order of tokens. The same codes
and scales as a dense `PackedVectors`, and back, bit for bit. Does not know what codes mean.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from turbo_kv.quant.packing import PackedVectors, pack, storage_bytes, unpack

ROWS = 16
FIELDS = {2: 8, 3: 5, 4: 4}  # bits -> codes in a word
FIRST_BIT = {2: 0, 3: 1, 4: 0}  # of field 0


@dataclass(frozen=True, eq=False)
class Pages:
    """Keys or values of one layer in pages of a fixed number; written in place.

    words: int16 (B, H, P, 16, D). scales: fp16 (B, H, P·16·F).
    length: int32 (1,) on the device, the tokens that are valid; what lies beyond is never read.
    bits: width of a code, 2 to 4.
    """

    words: Tensor
    scales: Tensor
    length: Tensor
    bits: int

    @property
    def head_dim(self) -> int:
        return self.words.shape[-1]

    @property
    def capacity(self) -> int:
        """Tokens there is room for."""
        return self.scales.shape[-1]

    @property
    def nbytes(self) -> int:
        """Bytes held, read from storage."""
        return storage_bytes(self.words, self.scales, self.length)

    def with_room(self, tokens: int) -> "Pages":
        """The same content in new storage, of as many pages as `tokens` tokens take."""
        batch, heads, _, _, head_dim = self.words.shape
        moved = empty_pages((batch, heads, tokens, head_dim), self.bits, self.words.device)
        pages = min(moved.words.shape[2], self.words.shape[2])
        moved.words[:, :, :pages] = self.words[:, :, :pages]
        kept = pages * page_tokens(self.bits)
        moved.scales[:, :, :kept] = self.scales[:, :, :kept]
        return replace(moved, length=self.length)

    def map_batch(self, fn: Callable[[Tensor], Tensor]) -> "Pages":
        """Apply `fn` to words and scales, batch first: reorder, repeat or select."""
        return replace(self, words=fn(self.words), scales=fn(self.scales))


def page_tokens(bits: int) -> int:
    """Tokens of a page: 128, 80 or 64 for codes of 2, 3 or 4 bits; ValueError for others."""
    if bits not in FIELDS:
        raise ValueError(
            f"pages of {bits!r}-bit codes; choose one of {', '.join(map(str, FIELDS))}"
        )
    return ROWS * FIELDS[bits]


def page_count(tokens: int, bits: int) -> int:
    """Pages that `tokens` tokens take."""
    return -(-tokens // page_tokens(bits))


def empty_pages(shape: tuple[int, int, int, int], bits: int, device: torch.device | str) -> Pages:
    """Pages with room for at least T tokens, none valid yet; their content is undefined.

    shape: (B, H, T, D).
    """
    batch, heads, tokens, head_dim = shape
    pages = page_count(tokens, bits)
    return Pages(
        torch.empty(batch, heads, pages, ROWS, head_dim, dtype=torch.int16, device=device),
        torch.empty(batch, heads, pages * page_tokens(bits), dtype=torch.half, device=device),
        torch.zeros(1, dtype=torch.int32, device=device),
        bits,
    )


def to_pages(packed: PackedVectors) -> Pages:
    """Dense codes (B, H, T, ·) as pages; fields of tokens past T are zero, scales too.

    Raises ValueError for a sketch or 8-bit scales, which pages do not hold, and for 1-bit codes.
    """
    if packed.signs is not None:
        raise ValueError("pages hold no QJL sketch; keep such vectors dense")
    if packed.scales.dtype != torch.half:
        raise ValueError("pages hold scales of 16 bits; keep vectors with others dense")
    per_page, tokens = page_tokens(packed.bits), packed.seq_len
    missing = page_count(tokens, packed.bits) * per_page - tokens
    codes = unpack(packed.codes, packed.bits, packed.head_dim).to(torch.int32)
    fields = F.pad(codes, (0, 0, 0, missing)).unflatten(2, (-1, FIELDS[packed.bits], ROWS))
    words = (fields << _shifts(packed.bits, codes.device)).sum(3, dtype=torch.int32)
    return Pages(
        words.to(torch.int16),
        F.pad(packed.scales, (0, missing)),
        torch.tensor([tokens], dtype=torch.int32, device=codes.device),
        packed.bits,
    )


def to_dense(pages: Pages, tokens: int) -> PackedVectors:
    """The first `tokens` tokens as dense codes: undoes `to_pages`.

    tokens: at most `pages.length`, passed as a number since reading it would wait for the device.
    """
    words = pages.words[:, :, : page_count(tokens, pages.bits)].unsqueeze(3).to(torch.int32)
    fields = words >> _shifts(pages.bits, words.device) & 2**pages.bits - 1
    codes = fields.flatten(2, 4)
    dense = pack(codes[:, :, :tokens], pages.bits)
    return PackedVectors(
        dense, pages.scales[:, :, :tokens].clone(), None, None, pages.bits, pages.head_dim
    )


def _shifts(bits: int, device: torch.device) -> Tensor:
    """Where each field starts, int32 (F, 1, 1): against words (B, H, P, F, 16, D)."""
    first = FIRST_BIT[bits]
    stop = first + bits * FIELDS[bits]
    return torch.arange(first, stop, bits, dtype=torch.int32, device=device).view(-1, 1, 1)
