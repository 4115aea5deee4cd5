"""Codes laid out for a GPU: 64 tokens of a KV head make a page, and a word is read where it lies.

The codes of 16 tokens and 16 channels are one operand of the matrix unit, of which every lane
(g, t) of a warp, g < 8 and t < 4, holds eight: two words of four nibbles. Of keys a row of the
operand is a token and a nibble a channel, of values the other way round; word h is row g + 8h, and
nibble n is column 8 (n // 2) + 2t + n % 2. The four fields of a page, 16 tokens each, share the
nibbles of `bits` planes of words:

    4 bits    ssss               plane p holds field p
    3 bits    zppp               plane p holds field p; spare bit z is bit p of field 3
    2 bits    bbaa               plane p holds fields 2p and 2p + 1

`words[page, p]` runs over operands of 16 channels, lanes and h so that a lane reads 16 bytes at a
time, and no bit is lost. Scales lie apart, those of a lane side by side. The same codes and scales
as a dense `PackedVectors`, and back, bit for bit. Does not know what codes mean.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from turbo_kv.quant.packing import PackedVectors, pack, storage_bytes, unpack

PAGE = 64  # tokens
FIELDS = 4  # of a page
BITS = (2, 3, 4)  # widths of a code
CHANNELS = 64  # of what head_dim is a multiple

Side = Literal["keys", "values"]
SIDES: tuple[Side, Side] = ("keys", "values")


@dataclass(frozen=True, eq=False)
class Pages:
    """Keys or values of one layer in pages of a fixed number; written in place.

    words: int16 (B, H, P, bits, 4 D). scales: fp16 (B, H, P·64), by lane: see `token_scales`.
    length: int32 (1,) on the device, the tokens that are valid; what lies beyond is never read.
    arrived: int32 (B, H), zeros: a launch that attends counts its programs in those of the keys,
    and leaves zeros. So no two may attend to the same pages at once.
    bits: width of a code, 2 to 4. side: whose rows are tokens ("keys") or channels ("values").
    """

    words: Tensor
    scales: Tensor
    length: Tensor
    arrived: Tensor
    bits: int
    side: Side

    @property
    def head_dim(self) -> int:
        return self.words.shape[-1] // 4

    @property
    def capacity(self) -> int:
        """Tokens there is room for."""
        return self.scales.shape[-1]

    @property
    def nbytes(self) -> int:
        """Bytes held, read from storage."""
        return storage_bytes(self.words, self.scales, self.length, self.arrived)

    def token_scales(self, start: int, stop: int) -> Tensor:
        """Scales of tokens `start` to `stop`, fp16 (B, H, stop - start), in their order."""
        first = start // PAGE * PAGE
        scales = self.scales[:, :, first : page_count(stop) * PAGE]
        lanes = scales.unflatten(2, (-1, 8, FIELDS, 2))  # page, g, field, h
        return lanes.permute(0, 1, 2, 4, 5, 3).flatten(2)[:, :, start - first : stop - first]

    def with_room(self, tokens: int) -> "Pages":
        """The same content in new storage, of as many pages as `tokens` tokens take."""
        batch, heads = self.words.shape[:2]
        shape = batch, heads, tokens, self.head_dim
        moved = empty_pages(shape, self.bits, self.side, self.words.device)
        pages = min(moved.words.shape[2], self.words.shape[2])
        moved.words[:, :, :pages] = self.words[:, :, :pages]
        moved.scales[:, :, : pages * PAGE] = self.scales[:, :, : pages * PAGE]
        return replace(moved, length=self.length, arrived=self.arrived)

    def map_batch(self, fn: Callable[[Tensor], Tensor]) -> "Pages":
        """Apply `fn` to every row's tensors, batch first: reorder, repeat or select."""
        rows = {"words": self.words, "scales": self.scales, "arrived": self.arrived}
        return replace(self, **{name: fn(row) for name, row in rows.items()})


def page_count(tokens: int) -> int:
    """Pages that `tokens` tokens take."""
    return -(-tokens // PAGE)


def empty_pages(
    shape: tuple[int, int, int, int], bits: int, side: Side, device: torch.device | str
) -> Pages:
    """Pages with room for at least T tokens, none valid yet; their content is undefined.

    shape: (B, H, T, D). Raises ValueError for bits and head_dims that pages do not hold.
    """
    batch, heads, tokens, head_dim = shape
    _check(bits, head_dim)
    pages = page_count(tokens)
    return Pages(
        torch.empty(batch, heads, pages, bits, 4 * head_dim, dtype=torch.int16, device=device),
        torch.empty(batch, heads, pages * PAGE, dtype=torch.half, device=device),
        torch.zeros(1, dtype=torch.int32, device=device),
        torch.zeros(batch, heads, dtype=torch.int32, device=device),
        bits,
        side,
    )


def to_pages(packed: PackedVectors, side: Side) -> Pages:
    """Dense codes (B, H, T, ·) as pages; the codes of tokens past T are zero, their scales too.

    Raises ValueError for a sketch or 8-bit scales, which pages do not hold, and as `empty_pages`.
    """
    if packed.signs is not None:
        raise ValueError("pages hold no QJL sketch; keep such vectors dense")
    if packed.scales.dtype != torch.half:
        raise ValueError("pages hold scales of 16 bits; keep vectors with others dense")
    bits, tokens = packed.bits, packed.seq_len
    _check(bits, packed.head_dim)
    missing = page_count(tokens) * PAGE - tokens
    codes = unpack(packed.codes, bits, packed.head_dim).to(torch.int32)
    nibbles = _nibbles(_to_operands(F.pad(codes, (0, 0, 0, missing)), side), bits)
    words = (nibbles << 4 * torch.arange(4, device=codes.device)).sum(-1)
    scales = F.pad(packed.scales, (0, missing)).unflatten(2, (-1, FIELDS, 2, 8))
    return Pages(
        words.to(torch.int16).flatten(4),
        scales.permute(0, 1, 2, 5, 3, 4).flatten(2),
        torch.tensor([tokens], dtype=torch.int32, device=codes.device),
        torch.zeros(packed.codes.shape[:2], dtype=torch.int32, device=codes.device),
        bits,
        side,
    )


def to_dense(pages: Pages, tokens: int) -> PackedVectors:
    """The first `tokens` tokens as dense codes: undoes `to_pages`.

    tokens: at most `pages.length`, passed as a number since reading it would wait for the device.
    """
    words = pages.words[:, :, : page_count(tokens)].to(torch.int32)
    words = words.unflatten(4, (-1, 8, 4, 4, 2)).unsqueeze(-1)
    nibbles = words >> 4 * torch.arange(4, device=words.device) & 15
    codes = _from_operands(_fields(nibbles, pages.bits), pages.side)[:, :, :tokens]
    return PackedVectors(
        pack(codes, pages.bits),
        pages.token_scales(0, tokens).clone(),
        None,
        None,
        pages.bits,
        pages.head_dim,
    )


def channel_order(head_dim: int) -> Tensor:
    """The channel at each position of the operands, int64 (D,).

    A lane t of 32 channels keeps the octet 8t..8t+7, which it loads when they are coded.
    """
    position = torch.arange(head_dim)
    operand, place = position // 16, position % 16
    octet = place // 2 % 4
    return operand // 2 * 32 + octet * 8 + operand % 2 * 4 + place // 8 * 2 + place % 2


def _check(bits: int, head_dim: int) -> None:
    if bits not in BITS:
        raise ValueError(f"pages of {bits!r}-bit codes; choose one of {', '.join(map(str, BITS))}")
    if head_dim % CHANNELS:
        raise ValueError(f"pages of {head_dim} channels; they take a multiple of {CHANNELS}")


# Operands have the dimensions (B, H, page, field, D / 64, g, t, operand of 4, h, nibble).


def _to_operands(codes: Tensor, side: Side) -> Tensor:
    """Codes (B, H, P·64, D) where the lanes want them."""
    ordered = codes[..., channel_order(codes.shape[-1]).to(codes.device)]
    if side == "keys":
        split = ordered.unflatten(3, (-1, 4, 2, 4, 2)).unflatten(2, (-1, FIELDS, 2, 8))
        return split.permute(0, 1, 2, 3, 6, 5, 9, 7, 4, 8, 10).flatten(-2)
    split = ordered.unflatten(3, (-1, 4, 2, 8)).unflatten(2, (-1, FIELDS, 2, 4, 2))
    return split.permute(0, 1, 2, 3, 7, 10, 5, 8, 9, 4, 6).flatten(-2)


def _from_operands(operands: Tensor, side: Side) -> Tensor:
    """Undoes `_to_operands`."""
    split = operands.unflatten(-1, (2, 2))
    if side == "keys":
        ordered = split.permute(0, 1, 2, 3, 8, 5, 4, 7, 9, 6, 10)
    else:
        ordered = split.permute(0, 1, 2, 3, 9, 6, 10, 4, 7, 8, 5)
    codes = ordered.flatten(7 if side == "values" else 6).flatten(2, -2)
    return codes[..., channel_order(codes.shape[-1]).argsort().to(codes.device)]


def _nibbles(fields: Tensor, bits: int) -> Tensor:
    """Operands of every plane, of those of every field (dimension 3)."""
    if bits == 4:
        return fields
    if bits == 2:
        return fields[:, :, :, ::2] | fields[:, :, :, 1::2] << 2
    spare = [(fields[:, :, :, 3] >> plane & 1) << 3 for plane in range(3)]
    return fields[:, :, :, :3] | torch.stack(spare, 3)


def _fields(nibbles: Tensor, bits: int) -> Tensor:
    """Undoes `_nibbles`."""
    if bits == 4:
        return nibbles
    if bits == 2:
        return torch.stack((nibbles & 3, nibbles >> 2), 4).flatten(3, 4)
    spare = sum((nibbles[:, :, :, plane] >> 3) << plane for plane in range(3))
    return torch.cat((nibbles & 7, spare.unsqueeze(3)), 3)
