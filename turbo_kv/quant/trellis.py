"""A trellis codebook: the level of a coordinate depends on its code and on the codes before it.

The packed codes of a vector are one ring of bits. The L bits that end with the code of coordinate
i, older bits low, the first code following the last, are the state

    s_i = (s_{i-1} >> b) | c_i << (L - b),    s_{-1} = s_{D-1},    level of i = levels[s_i].

So a code keeps its b bits and none is added, while 2^L levels are in use at every coordinate (a
bit-shift trellis that bites its tail; trellis-coded quantization, Marcellin and Fischer 1990; QTIP,
arXiv 2406.11235). To decode is to read a window of the ring: no coordinate waits for another. To
encode is to find the cheapest path by Viterbi's algorithm, one coordinate after the other: first
around the seam of the ring alone, then, through the state that this path has there, all around.

Costs are whole numbers: t² - 2 t x in fixed point, int32, so that neither the number of vectors
side by side nor the device changes a path. The lowest b bits of a cost name the predecessor it
came through; the minimum over predecessors carries them along. Knows nothing of how good levels
are found (trellis_design.py).
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from turbo_kv.quant.packing import pack

STATE_BITS = 10
LEVELS_FILE = Path(__file__).parent / "trellis_levels.f16"  # of 1, 2, 3 and 4 bits
STRETCHES = (0.9, 1.0, 1.1)
SEAM = 16  # coordinates on either side of the seam; more gain little
UNREACHED = 2**30
LARGEST_COST = UNREACHED // 2  # the sum of both stays within int32
VECTORS_AT_ONCE = 1024  # more gain little
VECTORS_AT_ONCE_ELSEWHERE = 4096  # whose back-pointers take D·2^(L-b) bytes each


class Walk(NamedTuple):
    """How paths are searched and traced back: the same numbers, wherever that is done.

    search, trace: as the functions of these names below.
    """

    search: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
    trace: Callable[[Tensor, Tensor, int], Tensor]


class TrellisCodebook:
    """Levels for coordinates of unit vectors in R^head_dim, by state, on `device`.

    levels: (2^L,), for a coordinate of variance 1. bits: of a code; L is at least
        that, and at most the bits of a whole vector.
    stretches: what a vector is multiplied by before its paths are sought.
    `walk` may be replaced by a faster one.
    """

    def __init__(
        self,
        levels: Tensor,
        bits: int,
        head_dim: int,
        device: torch.device | str = "cpu",
        stretches: tuple[float, ...] = STRETCHES,
    ) -> None:
        self.bits, self.head_dim, self.stretches = bits, head_dim, stretches
        self.walk = WALK
        self.state_bits = len(levels).bit_length() - 1
        self.levels = (levels.double() / head_dim**0.5).float().to(device).unsqueeze(1)

        self.one = self._unit(levels.abs().max().item())
        fixed = (levels.double() * self.one).round().to(torch.int32)
        predecessor = torch.arange(len(levels), dtype=torch.int32) % 2**bits
        newest_code_first = (2**bits, -1, 1)  # (codes, older bits, vectors)
        self.slopes = (-2 * fixed << bits).view(newest_code_first).to(device)
        self.squares = (fixed.square() << bits | predecessor).view(newest_code_first).to(device)

        before = -(-(self.state_bits - bits) // 8)  # bytes of zeros before the stream
        starts = 8 * before - self.state_bits + bits * torch.arange(1, head_dim + 1)
        self.padding = (before, 2)
        self.starts, self.shifts = (starts // 8).to(device), (starts % 8).int().to(device)
        reached = torch.arange(bits, self.state_bits, bits, dtype=torch.int32)
        self.across = reached.to(device)  # how far the last state has moved on, past the seam

    def encode(self, unit: Tensor) -> Tensor:
        """Packed codes of unit vectors (N, D), fp32: (N, ⌈D·bits/8⌉), uint8.

        Of the paths nearest to a vector and to its stretched copies, the one at the smallest angle:
        the scale that is stored beside it mends lengths.
        """
        on_cpu = unit.device.type == "cpu"
        size = VECTORS_AT_ONCE if on_cpu else VECTORS_AT_ONCE_ELSEWHERE
        parts = unit.split(size // len(self.stretches))
        return torch.cat([self._best(part) for part in parts])

    def decode(self, codes: Tensor) -> Tensor:
        """Levels of packed codes (..., ⌈D·bits/8⌉): (..., D), fp32."""
        return F.embedding(self.states(codes), self.levels).squeeze(-1)

    def states(self, codes: Tensor) -> Tensor:
        """The state at every coordinate: (..., D), int32."""
        stream = F.pad(codes, self.padding).to(torch.int32)
        words = stream[..., :-2] | stream[..., 1:-1] << 8 | stream[..., 2:] << 16
        states = words.index_select(-1, self.starts) >> self.shifts & 2**self.state_bits - 1
        states[..., : len(self.across)] |= states[..., -1:] >> self.across
        return states

    def _unit(self, largest: float) -> int:
        """What 1 is in fixed point, so that no path's cost passes LARGEST_COST.

        The cheapest path costs at least -‖x‖². From it any state is reached in n coordinates, which
        cost at most n t² + 2 t √n ‖x‖ with t the largest level.
        """
        steps = -(-self.state_bits // self.bits)
        length = self._longest()
        cost = length**2 + steps * largest**2 + 2 * largest * steps**0.5 * length
        return int((LARGEST_COST / 2**self.bits / cost) ** 0.5)

    def _longest(self) -> float:
        """The length of the longest vector that is searched for, its coordinates of variance 1."""
        return max(self.stretches) * self.head_dim**0.5

    def _best(self, unit: Tensor) -> Tensor:
        stretched = torch.cat([unit * by for by in self.stretches])
        tries = pack(self._cheapest(stretched), self.bits).unflatten(
            0, (len(self.stretches), len(unit))
        )
        best = self._likeness(self.decode(tries), unit).argmax(0).view(1, -1, 1)
        return tries.gather(0, best.expand(1, *tries.shape[1:]))[0]

    def _likeness(self, levels: Tensor, unit: Tensor) -> Tensor:
        """How well levels (tries, N, D), at their best length, stand for unit vectors (N, D)."""
        return F.cosine_similarity(levels, unit, dim=-1)

    def _cheapest(self, vectors: Tensor) -> Tensor:
        """Codes (N, D), uint8, of the nearest path to each vector (N, D) through one seam state.

        The state is that of the nearest path around the seam; others are seldom better.
        """
        x = self._fixed(vectors)
        seam = self._seam(x)
        cost, came_from = self._search(x, self._only(seam))
        states = self.walk.trace(self._cheapest_end(cost, seam), came_from, len(self.slopes))
        return self._codes(states)

    def _fixed(self, vectors: Tensor) -> Tensor:
        """Coordinates (D, N) in fixed point, of variance 1, of vectors (N, D)."""
        return (vectors * (self.head_dim**0.5 * self.one)).round_().to(torch.int32).T.contiguous()

    def _codes(self, states: Tensor) -> Tensor:
        """Codes (N, D), uint8, of states (D, N)."""
        return (states // self.slopes.shape[1]).to(torch.uint8).T

    def _seam(self, x: Tensor) -> Tensor:
        """What remains (N,) at the first coordinate of the state before it, for x (D, N)."""
        reach = min(SEAM, self.head_dim)
        anywhere = x.new_zeros(self.slopes.shape[1], x.shape[1])
        cost, came_from = self._search(torch.cat((x[-reach:], x[:reach])), anywhere)
        ways = len(self.slopes)
        return self.walk.trace(cost.argmin(0), came_from, ways)[reach - 1] // ways

    def _only(self, remains: Tensor) -> Tensor:
        """Costs before a search that may begin with these remains (N,) alone."""
        costs = torch.full_like(self.slopes[0].expand(-1, len(remains)), UNREACHED)
        return costs.scatter_(0, remains[None], 0)

    def _cheapest_end(self, cost: Tensor, remains: Tensor) -> Tensor:
        """The cheapest last state (N,) of which so much remains."""
        ways = len(self.slopes)
        ends = remains * ways + torch.arange(ways, device=cost.device).unsqueeze(1)
        return ends.gather(0, cost.gather(0, ends).argmin(0, keepdim=True))[0]

    def _search(self, x: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        return self.walk.search(x, before, self.slopes, self.squares)


def search(x: Tensor, before: Tensor, slopes: Tensor, squares: Tensor) -> tuple[Tensor, Tensor]:
    """The least cost of every last state (2^L, N), and the way into each state by coordinate.

    x: coordinates (D, N) in fixed point. before: the least cost so far by the bits that remain
    of a state, (2^(L-b), N), int32; overwritten. slopes, squares: a codebook's own.
    """
    ways, older, _ = slopes.shape
    cost = x.new_empty(ways, older, x.shape[1])
    came_from = torch.empty(len(x), *before.shape, dtype=torch.uint8, device=x.device)
    for i, coordinates in enumerate(x):
        torch.addcmul(before, slopes, coordinates, out=cost)
        cost += squares
        torch.amin(cost.view(older, ways, -1), 1, out=before)
        came_from[i] = before
        before &= -ways
    return cost.flatten(0, 1), came_from


def trace(state: Tensor, came_from: Tensor, ways: int) -> Tensor:
    """The states (D, N), int64, of the paths that end in `state` (N,), read backwards."""
    states = state.new_empty(len(came_from), len(state))
    states[-1] = state
    for i in reversed(range(len(states) - 1)):
        remaining = states[i + 1] % came_from.shape[1]
        way = came_from[i].gather(0, remaining[None])[0] & ways - 1
        states[i] = remaining * ways + way
    return states


WALK = Walk(search, trace)


@cache
def shipped_levels(bits: int) -> Tensor:
    """The levels that come with the package, (2^STATE_BITS,), fp32."""
    stored = torch.frombuffer(bytearray(LEVELS_FILE.read_bytes()), dtype=torch.float16)
    return stored.view(-1, 2**STATE_BITS)[bits - 1].float()
