"""Layers of packed pages to be timed: random codes around a mean that turns as Qwen2.5's does.

Knows the formats of codes that the GPU kernel is timed with. Knows nothing of clocks, and of Triton
only where a GPU attends.
"""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from turbo_kv.bench.attention_ways import Shape
from turbo_kv.kernels import reference
from turbo_kv.kernels.pages import SIDES, Pages, Side, empty_pages, to_dense
from turbo_kv.kernels.states import PackedStates
from turbo_kv.quant.centering import Center
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.packing import PackedVectors
from turbo_kv.quant.quantizer import TurboQuantizer

if TYPE_CHECKING:
    from turbo_kv.kernels.decode_triton import PagedAttention

THETA = 1e6  # of Qwen2.5's rotary embedding
MEAN = 8.0  # largest coordinate of a mean, in the slowest pairs
QUERIES = 2.4  # their deviation; scores are then as far apart as the bundled model's
FORMATS = ("lloyd-max", "fast")  # codebooks of 3 bits


def quantizers(name: str, head_dim: int, device: torch.device) -> tuple[TurboQuantizer, ...]:
    """The quantizers of keys and values of one of FORMATS."""
    return (TurboQuantizer(head_dim, QuantConfig(codebook=name), device),) * 2


class PackedCaches:
    """Pages of random codes for several layers, centred, and what attends to them."""

    def __init__(
        self,
        shape: Shape,
        quantizers: tuple[TurboQuantizer, TurboQuantizer],
        layers: int,
        device: torch.device,
    ) -> None:
        self.shape, self.quantizers = shape, quantizers
        room = shape.tokens + 1024
        frequencies = THETA ** -(torch.arange(0, shape.head_dim, 2).double() / shape.head_dim)
        angles = torch.outer(torch.arange(room).double(), frequencies).repeat(1, 2)
        self.cos, self.sin = (table.float().to(device) for table in (angles.cos(), angles.sin()))
        heads = (shape.batch, shape.kv_heads, shape.head_dim)
        slow = torch.linspace(0, 1, shape.head_dim // 2, device=device).pow(4).repeat(2)
        self.center = Center(
            MEAN * slow * torch.randn(heads, device=device), torch.randn(heads, device=device)
        )
        self.layers = [
            tuple(
                _random_pages(shape, one, device, side)
                for one, side in zip(quantizers, SIDES, strict=True)
            )
            for _ in range(layers)
        ]
        size = shape.batch, shape.kv_heads * shape.groups, 1, shape.head_dim
        self.queries = QUERIES * torch.randn(size, device=device, dtype=torch.bfloat16)

    @cached_property
    def attend(self) -> "PagedAttention":
        """What attends to pages on a GPU."""
        from turbo_kv.kernels.decode_triton import PagedAttention

        return PagedAttention(*self.quantizers, self.cos, self.sin)

    @property
    def nbytes(self) -> int:
        """Bytes a layer's attention must read."""
        return sum(side.words.nbytes + side.scales.nbytes for side in self.layers[0])

    def calls(self) -> Iterator[Callable[[], Tensor]]:
        """Attention, layer by layer."""
        for keys, values in self.layers:
            yield lambda keys=keys, values=values: self.attend(
                self.queries, keys, values, self.center
            )

    def states(self, rows: int) -> PackedStates:
        """The first layer's first rows, dense, as the specification reads them."""
        keys, values = (_dense(side, self.shape.tokens, rows) for side in self.layers[0])
        none = torch.empty(*keys.scales.shape[:2], 0, self.shape.head_dim, device=self.cos.device)
        tables = self.cos[: self.shape.tokens], self.sin[: self.shape.tokens]
        center = self.center.map_batch(lambda mean: mean[:rows])
        return PackedStates(keys, values, *self.quantizers, center, *tables, none, none)

    def error(self, rows: int = 2) -> float:
        """Relative L2 distance from the fp32 specification on the same bytes, first rows."""
        queries = self.queries.float()  # rounding the output would hide what the kernel does
        exact = reference.attention(queries[:rows], self.states(rows))
        got = self.attend(queries, *self.layers[0], self.center)[:rows]
        return ((got - exact).norm() / exact.norm()).item()


def _random_pages(
    shape: Shape, quantizer: TurboQuantizer, device: torch.device, side: Side
) -> Pages:
    size = shape.batch, shape.kv_heads, shape.tokens, shape.head_dim
    pages = empty_pages(size, quantizer.codebook.bits, side, device)
    pages.words.random_(-(2**15), 2**15)
    levels = quantizer.codebook.centroids
    pages.scales.uniform_(0.5, 1.5).div_(levels.square().mean().sqrt())
    pages.length.fill_(shape.tokens)
    return pages


def _dense(side: Pages, tokens: int, rows: int) -> PackedVectors:
    return to_dense(side.map_batch(lambda kept: kept[:rows]), tokens)
