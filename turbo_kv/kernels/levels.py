"""How a GPU finds the level of a code: bytes picked from a table in registers, eight codes at once.

Two words hold eight codes in their nibbles (pages.py), and `prmt` picks a byte for each of four
nibbles out of eight: the upper byte of a level in fp16. Codebooks whose levels have no lower byte,
as the fast ones, need no more; others pick the lower bytes from a second table. Sixteen levels take
two such tables for each byte. Knows nothing of attention.
"""

import math
import struct
from dataclasses import dataclass

import torch
from torch import Tensor

TOLERANCE = 1e-4  # of a level to one without a lower byte, of it
TOPS = (1.0, 1.25, 1.5, 1.75)  # largest levels without a lower byte, up to powers of two
ROOM = 3
MOST_INTEGER = 127 * 256  # of two bytes


@dataclass(frozen=True)
class Codes:
    """How a kernel reads one side; a compile-time constant of it.

    levels: of every code, fp16 numbers; times `gain` they are the centroids.
    plane, shift, mask: where the codes of each field lie in nibbles; field 3 of 3 bits is spread.
    tables: the bytes of levels in words, which a kernel keeps in registers.
    ptx: for each field from words ($4..) and tables to levels ($0 top left, $1 below, $2 top right,
    $3); or () for a kernel that goes without.
    room: log2 of what weights are raised by, so that weight times scale stays normal in fp16.
    peak: what the entries of the rotation matrix were divided by.
    """

    bits: int
    levels: tuple[float, ...]
    gain: float
    plane: tuple[int, ...]
    shift: tuple[int, ...]
    mask: int
    tables: tuple[int, ...]
    ptx: tuple[str, ...]
    room: float
    peak: float


def codes(centroids: Tensor, *, peak: float, inline: bool) -> Codes:
    """What a kernel needs to read codes of centroids (2^bits,), ascending; PTX if `inline`."""
    centroids = centroids.double().cpu()
    bits = len(centroids).bit_length() - 1
    levels = _levels(centroids)
    tables = _tables(levels)
    short = len(tables) == _table_words(True, bits)
    gain = (levels @ centroids / (levels @ levels)).item()
    fields = range(4)
    return Codes(
        bits=bits,
        levels=tuple(levels.tolist()),
        gain=gain,
        plane=tuple(field // 2 if bits == 2 else field for field in fields),
        shift=tuple(2 * (field % 2) if bits == 2 else 0 for field in fields),
        mask=0x1111 * (2**bits - 1),
        tables=tables,
        ptx=tuple(_ptx(short, bits, field) for field in fields) if inline else (),
        room=math.log2(gain) + ROOM,
        peak=peak,
    )


def integers(centroids: Tensor) -> tuple[tuple[int, ...], bool, float]:
    """Words of the bytes of integers in proportion to centroids (2^bits,), and what they count.

    One byte each if that can be, else an upper byte u, then a lower one v: 256 u + v, both signed.
    Returns words of a table, upper bytes first; whether there are lower ones; and what 1, or with
    lower bytes 256, stands for.
    """
    centroids = centroids.double().cpu()
    shape = centroids / centroids.abs().max()
    most = (each for each in range(1, 128) if _near((shape * each).round(), shape * each))
    most = next(most, MOST_INTEGER)
    long = most == MOST_INTEGER
    levels = (shape * most).round()
    gain = (levels @ centroids / (levels @ levels)).item()
    numbers = levels.long()
    upper = (numbers + 128) >> 8 if long else numbers
    tables = (upper, numbers - 256 * upper) if long else (upper,)
    words = ()
    for table in tables:
        words += _words(bytes(byte & 0xFF for byte in table.tolist()))
    return words, long, 256 * gain if long else gain


def _levels(centroids: Tensor) -> Tensor:
    """fp16 numbers in proportion to the centroids, without lower bytes if that can be."""
    shape = centroids / centroids.abs().max()
    for top in TOPS:
        short = _without_lower_byte(shape * top)
        if _near(short, shape * top):
            return short
    return shape.half().double()


def _near(levels: Tensor, wanted: Tensor) -> bool:
    return torch.allclose(levels, wanted, rtol=TOLERANCE)


def _without_lower_byte(numbers: Tensor) -> Tensor:
    """The nearest fp16 numbers whose lower byte is zero."""
    bits = numbers.half().view(torch.int16).to(torch.int32)
    return ((bits + 0x80) & ~0xFF).to(torch.int16).view(torch.half).double()


def _ptx(short: bool, bits: int, field: int) -> str:
    """The program for one field. Triton passes each word of a table twice, once for either h."""
    first = 4 + (3 if (bits, field) == (3, 3) else 1)
    words = [f"${first + 2 * n}" for n in range(_table_words(short, bits))]
    each = 2 * (2 if bits == 4 else 1)  # words of one table
    tables = {"a": words[:each]} | ({} if short else {"b": words[each:]})
    lines = [".reg .b32 x, y, m, q, a, b;", *_nibbles(bits, field)]
    for outputs in (("$0", "$2"), ("$1", "$3")):
        if bits == 4:
            lines.append("prmt.b32 m, 0xFF00, 0, y;")  # all ones where codes are 8 or more
        for name, table in tables.items():
            lines.append(f"prmt.b32 {name}, {table[0]}, {table[1]}, x;")
            if bits == 4:
                lines.append(f"prmt.b32 q, {table[2]}, {table[3]}, x;")
                lines.append(f"lop3.b32 {name}, {name}, q, m, 0xD8;")  # m ? q : {name}
        for output, pair in zip(outputs, ((0, 1), (2, 3)), strict=True):
            lines.append(_pair(output, pair, short))
        lines.append("mul.hi.u32 x, x, 65536; mul.hi.u32 y, y, 65536;")  # a shift, off the ALU
    return "\n".join(("{", *lines, "}"))


def _nibbles(bits: int, field: int) -> list[str]:
    """PTX that puts a field's codes into the nibbles of x; of 4 bits the upper one into y."""
    if bits == 4:
        return ["shr.u32 y, $4, 3; and.b32 y, y, 0x11111111; and.b32 x, $4, 0x77777777;"]
    if bits == 3 and field == 3:
        return [
            "mov.b32 y, 0; shr.u32 x, $4, 3; and.b32 x, x, 0x11111111;",
            "shr.u32 q, $5, 2; lop3.b32 x, q, 0x22222222, x, 0xEA;",  # (q & mask) | x
            "shr.u32 q, $6, 1; lop3.b32 x, q, 0x44444444, x, 0xEA;",
        ]
    mask, shift = 0x11111111 * (2**bits - 1), 2 * (field % 2) if bits == 2 else 0
    return [f"mov.b32 y, 0; shr.u32 x, $4, {shift}; and.b32 x, x, 0x{mask:08X};"]


def _pair(output: str, pair: tuple[int, int], short: bool) -> str:
    """PTX that makes two levels of bytes of a, the upper ones, and of b or zeros."""
    first, second = pair
    if short:
        return f"prmt.b32 {output}, a, 0, 0x{second}4{first}4;"
    return f"prmt.b32 {output}, a, b, 0x{second}{second + 4}{first}{first + 4};"


def _table_words(short: bool, bits: int) -> int:
    return (1 if short else 2) * (4 if bits == 4 else 2)


def _tables(levels: Tensor) -> tuple[int, ...]:
    """Words of the upper bytes of fp16 levels, then, if there are any, of the lower ones."""
    lower, upper = zip(*(struct.pack("<e", level) for level in levels.tolist()), strict=True)
    words = ()
    for table in (upper, lower) if any(lower) else (upper,):
        words += _words(bytes(table))
    return words


def _words(table: bytes) -> tuple[int, ...]:
    padded = table.ljust(8, b"\0")
    return struct.unpack(f"<{len(padded) // 4}i", padded)
