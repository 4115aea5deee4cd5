"""Codes to bytes without a wasted bit, and the buffers that own them.

Codes follow each other as a little-endian stream of bits, lowest bit first: of 3-bit codes a to h,
eight fill three bytes (letters name a code's bits, the highest bit of each byte on the left):

    byte 0  ccbbbaaa    byte 1  feeedddc    byte 2  hhhgggff

1, 2 and 4 bits put 8, 4 and 2 codes into each byte the same way. n codes take ⌈n·bits/8⌉ bytes.
Knows nothing of what the codes mean. Shifts act on int32 only (older MPS shifts bytes wrongly).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from turbo_kv.quant.scales import read

GROUPS = {1: (8, 1), 2: (4, 1), 3: (8, 3), 4: (2, 1)}  # bits -> fewest codes that fill whole bytes


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack codes (..., n), integers below 2^bits, into bytes (..., ⌈n·bits/8⌉), uint8."""
    codes_per_group, bytes_per_group = _group(bits)
    size = packed_size(codes.shape[-1], bits)
    groups = _in_groups(codes, codes_per_group).to(torch.int32)
    shifted = groups << _steps(codes_per_group, bits, codes.device)
    words = shifted.sum(-1, keepdim=True, dtype=torch.int32)  # the least significant bytes first
    packed = words.view(torch.uint8)[..., :bytes_per_group].flatten(-2)[..., :size]
    return packed.clone(memory_format=torch.contiguous_format)  # storage of its size, not a view


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """Undo `pack`: the first `count` codes (..., count), uint8."""
    codes = torch.arange(2**bits, dtype=torch.uint8, device=packed.device)
    return look_up(packed, bits, window_table(codes, bits), count)


def look_up(packed: Tensor, bits: int, table: Tensor, count: int) -> Tensor:
    """Read packed codes through a `window_table`: (..., count), the table's dtype.

    One row of the table serves two to eight codes, so this is the fast way from bytes to values.
    """
    return F.embedding(_windows(packed, bits), table).flatten(-2)[..., :count]


def window_table(levels: Tensor, bits: int) -> Tensor:
    """For every window of packed bits the levels (2^bits,) of its codes: (windows, codes)."""
    codes_per_window = 4 if bits == 3 else _group(bits)[0]
    windows = torch.arange(2 ** (bits * codes_per_window), dtype=torch.int32, device=levels.device)
    codes = windows.unsqueeze(-1) >> _steps(codes_per_window, bits, levels.device) & 2**bits - 1
    return F.embedding(codes, levels.unsqueeze(-1)).squeeze(-1)


def packed_size(count: int, bits: int) -> int:
    """Bytes that `count` codes take."""
    return -(-count * bits // 8)


def storage_bytes(*tensors: Tensor | None) -> int:
    """Bytes of the storages behind the tensors, each storage once; None holds nothing."""
    storages = [tensor.untyped_storage() for tensor in tensors if tensor is not None]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


@dataclass(frozen=True, eq=False)
class PackedVectors:
    """Quantized vectors as stored: what this holds is what they cost.

    codes: uint8 (B, H, T, ⌈D·bits/8⌉). scales: fp16 or uint8 (B, H, T), as scales.py keeps them.
    signs: uint8 (B, H, T, ⌈D/8⌉). residual_norms: like scales. Both None without a sketch.
    bits: width of a code. head_dim: D. layout: "dense", every vector's codes in a row.
    """

    codes: Tensor
    scales: Tensor
    signs: Tensor | None
    residual_norms: Tensor | None
    bits: int
    head_dim: int
    layout: str = "dense"

    @property
    def seq_len(self) -> int:
        """Tokens stored."""
        return self.scales.shape[2]

    @property
    def nbytes(self) -> int:
        """Bytes held, read from storage."""
        return storage_bytes(*self._tensors().values())

    def scale_values(self) -> Tensor:
        """The scales as numbers, fp32 (B, H, T)."""
        return read(self.scales)

    def stored(self) -> dict[str, int]:
        """Bytes held by purpose: codes, scales, signs, residual_norms."""
        return {name: storage_bytes(tensor) for name, tensor in self._tensors().items()}

    def cat(self, other: "PackedVectors") -> "PackedVectors":
        """Append the tokens of `other`; ValueError unless both are coded alike."""
        if self._format() != other._format():
            raise ValueError(
                f"cannot append vectors coded as {other._format()} to {self._format()}; "
                "quantize both with the same settings"
            )
        theirs = other._tensors()
        return self._map(lambda name, tensor: torch.cat((tensor, theirs[name]), 2))

    def crop(self, length: int) -> "PackedVectors":
        """Keep the first `length` tokens, in storage of their own: the rest is freed."""
        return self.slice(0, length)._map(lambda _, tensor: tensor.clone())

    def slice(self, start: int, stop: int) -> "PackedVectors":
        """Tokens from `start` up to `stop` as views; ValueError outside 0 to `seq_len`."""
        if not 0 <= start <= stop <= self.seq_len:
            raise ValueError(f"tokens {start} to {stop} of {self.seq_len} stored ones")
        return self._map(lambda _, tensor: tensor[:, :, start:stop])

    def map_batch(self, fn: Callable[[Tensor], Tensor]) -> "PackedVectors":
        """Apply `fn` to every tensor, batch first: reorder, repeat, select or move."""
        return self._map(lambda _, tensor: fn(tensor))

    def _tensors(self) -> dict[str, Tensor | None]:
        return {
            "codes": self.codes,
            "scales": self.scales,
            "signs": self.signs,
            "residual_norms": self.residual_norms,
        }

    def _map(self, fn: Callable[[str, Tensor], Tensor]) -> "PackedVectors":
        present = {name: tensor for name, tensor in self._tensors().items() if tensor is not None}
        return replace(self, **{name: fn(name, tensor) for name, tensor in present.items()})

    def _format(self) -> str:
        sketch = "with" if self.signs is not None else "without"
        return (
            f"{self.layout} {self.bits}-bit codes of {self.head_dim} values {sketch} sketch, "
            f"scales in {8 * self.scales.element_size()} bits"
        )


def _group(bits: int) -> tuple[int, int]:
    if bits not in GROUPS:
        raise ValueError(f"codes of {bits!r} bits; choose one of {', '.join(map(str, GROUPS))}")
    return GROUPS[bits]


def _windows(packed: Tensor, bits: int) -> Tensor:
    """Cut bytes (..., n) into table indices, int32: bytes, or 12-bit halves of 3-byte groups."""
    if bits != 3:
        return packed.to(torch.int32)
    words = F.pad(_in_groups(packed, 3), (0, 1)).view(torch.int32)  # (..., groups, 1)
    return (words >> _steps(2, 12, packed.device) & 0xFFF).flatten(-2)


def _in_groups(x: Tensor, size: int) -> Tensor:
    """(..., n) as (..., groups, size), zeros filling the last group."""
    missing = -x.shape[-1] % size
    x = F.pad(x, (0, missing)) if missing else x
    return x.unflatten(-1, (x.shape[-1] // size, size))


def _steps(count: int, step: int, device: torch.device) -> Tensor:
    """0, step, 2·step, ...: how far each of `count` fields is shifted, int32."""
    return torch.arange(0, count * step, step, dtype=torch.int32, device=device)
