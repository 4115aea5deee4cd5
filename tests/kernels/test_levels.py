"""Codebooks as bytes in registers: what the PTX picks are the quantizer's levels."""

import re

import pytest
import torch

from turbo_kv.kernels.levels import codes, integers
from turbo_kv.kernels.pages import SIDES, to_pages
from turbo_kv.quant import fast, lloyd_max
from turbo_kv.quant.packing import PackedVectors, pack

BOOKS = {"lloyd-max": lloyd_max.codebook, "fast": fast.codebook}


@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("book", BOOKS)
def test_levels_are_the_codebook_s_up_to_a_gain(book, bits, head_dim):
    centroids = BOOKS[book](bits, head_dim).centroids.double()
    read = codes(centroids, peak=1.0, inline=False)
    levels = torch.tensor(read.levels).double() * read.gain
    assert ((levels - centroids).norm() / centroids.norm()).item() < 3e-4
    assert (levels / centroids - 1).abs().max().item() < (1e-6 if book == "fast" else 5e-4)
    assert torch.equal(torch.tensor(read.levels), torch.tensor(read.levels).half().float())


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_only_the_fast_levels_need_no_lower_byte(bits):
    words = {name: len(codes(book(bits, 128).centroids, peak=1.0, inline=True).tables)
             for name, book in BOOKS.items()}  # fmt: skip
    assert 2 * words["fast"] == words["lloyd-max"] == (8 if bits == 4 else 4)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("book", BOOKS)
def test_ptx_picks_the_level_of_every_code(book, bits, side):
    """The program of codes(), run on the words of random pages by the interpreter below."""
    read = codes(BOOKS[book](bits, 64).centroids, peak=1.0, inline=True)
    drawn = torch.randint(2**bits, (1, 1, 64, 64), generator=torch.Generator().manual_seed(bits))
    scales = torch.ones(1, 1, 64).half()
    pages = to_pages(PackedVectors(pack(drawn, bits), scales, None, None, bits, 64), side)
    planes = pages.words[0, 0, 0].view(bits, 8, 4, 4, 2)  # plane, g, t, operand, h
    for field in range(4):
        spread = (bits, field) == (3, 3)
        used = [0, 1, 2] if spread else [read.plane[field]]
        for lane in (0, 13, 31):
            g, t = divmod(lane, 4)
            for operand in range(4):
                pairs = planes[:, g, t, operand].view(torch.int32)[used, 0].tolist()
                tables = [word for word in read.tables for _ in range(2)]
                out = run(read.ptx[field], [*pairs, *tables])
                for index, right, low in ((0, 0, 0), (1, 0, 1), (2, 1, 0), (3, 1, 1)):
                    for e in range(2):
                        row, column = g + 8 * low, 8 * right + 2 * t + e
                        token, place = (row, column) if side == "keys" else (column, row)
                        code = drawn[0, 0, 16 * field + token, channel(operand, place)].item()
                        half = out[index] >> 16 * e & 0xFFFF
                        assert half == bits_of(read.levels[code])


def channel(operand, place):
    return operand // 2 * 32 + place // 2 % 4 * 8 + operand % 2 * 4 + place // 8 * 2 + place % 2


def bits_of(level):
    return torch.tensor(level).half().view(torch.int16).item() & 0xFFFF


def run(program, inputs):
    """The four outputs of a PTX program of shr, and, mov, lop3, mul.hi and prmt."""
    registers = {f"${4 + n}": word & 0xFFFFFFFF for n, word in enumerate(inputs)}

    def read(name):
        return registers[name] if name in registers else int(name, 0)

    for statement in re.findall(r"([a-z][\w.]*\.[bu]32) ([^;]+);", program):
        name, (target, *sources) = statement[0], statement[1].split(", ")
        if name == ".reg.b32" or target not in {"x", "y", "m", "q", "a", "b", *OUTPUTS}:
            continue
        registers[target] = OPERATIONS[name](*map(read, sources)) & 0xFFFFFFFF
    return [registers[name] for name in OUTPUTS]


def permuted(a, b, selector):
    source = (b << 32 | a).to_bytes(8, "little")
    picked = []
    for n in range(4):
        nibble = selector >> 4 * n & 15
        byte = source[nibble & 7]
        picked.append((0xFF if byte & 0x80 else 0) if nibble & 8 else byte)
    return int.from_bytes(bytes(picked), "little")


def looked_up(a, b, c, table):
    result = 0
    for n in range(32):
        index = (a >> n & 1) << 2 | (b >> n & 1) << 1 | (c >> n & 1)
        result |= (table >> index & 1) << n
    return result


OUTPUTS = ("$0", "$1", "$2", "$3")
OPERATIONS = {
    "mov.b32": lambda a: a,
    "and.b32": lambda a, b: a & b,
    "shr.u32": lambda a, b: a >> b,
    "mul.hi.u32": lambda a, b: a * b >> 32,
    "lop3.b32": looked_up,
    "prmt.b32": permuted,
}


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("book", BOOKS)
def test_integers_of_bytes_are_in_proportion_to_the_centroids(book, bits):
    centroids = BOOKS[book](bits, 128).centroids.double()
    words, long, unit = integers(centroids)
    tables = torch.tensor(words).int().view(torch.int8).double().view(1 + long, -1)
    numbers = (tables[0] + tables[1] / 256 if long else tables[0])[: 2**bits]
    assert (numbers * unit / centroids - 1).abs().max().item() < 2e-4
    assert long == (book == "lloyd-max" or bits == 4)
