"""Layers of packed pages to be timed: random codes around a mean that turns as Qwen2.5's does.

Knows the formats of codes that the GPU kernel is timed with. Knows nothing of clocks.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from turbo_kv.bench.attention_ways import Shape
from turbo_kv.kernels import reference
from turbo_kv.kernels.decode_triton import Launch, PagedAttention
from turbo_kv.kernels.pages import Pages, page_count, page_tokens, to_dense
from turbo_kv.kernels.states import PackedStates
from turbo_kv.quant.centering import Center
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.packing import PackedVectors
from turbo_kv.quant.quantizer import TurboQuantizer
from turbo_kv.quant.scalar import ScalarCodebook

THETA = 1e6  # of Qwen2.5's rotary embedding
STEP = 0.586  # of the best uniform codebook of 3 bits for N(0, 1)
MEAN = 8.0  # largest coordinate of a mean, in the slowest pairs
FORMATS = {
    "lloyd-max": ("lloyd-max", "lloyd-max"),
    "fast": ("fast", "fast"),
    "fast keys, uniform values": ("fast", "uniform"),
}  # name -> codebooks of 3-bit keys and values


def quantizers(name: str, head_dim: int, device: torch.device) -> tuple[TurboQuantizer, ...]:
    """The quantizers of keys and values of one of FORMATS."""
    return tuple(_quantizer(codebook, head_dim, device) for codebook in FORMATS[name])


def _quantizer(codebook: str, head_dim: int, device: torch.device) -> TurboQuantizer:
    if codebook != "uniform":
        return TurboQuantizer(head_dim, QuantConfig(codebook=codebook), device)
    quantizer = TurboQuantizer(head_dim, QuantConfig(), device)
    centroids = (torch.arange(8) - 3.5) * STEP / head_dim**0.5
    boundaries = (centroids[1:] + centroids[:-1]) / 2
    quantizer.codebook = ScalarCodebook(centroids, boundaries, head_dim, device)
    return quantizer


class PackedCaches:
    """Pages of random codes for several layers, centred, and what attends to them."""

    def __init__(
        self,
        shape: Shape,
        quantizers: tuple[TurboQuantizer, TurboQuantizer],
        layers: int,
        device: torch.device,
        launch: Launch | None = None,
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
            tuple(_random_pages(shape, one, device) for one in quantizers) for _ in range(layers)
        ]
        size = shape.batch, shape.kv_heads * shape.groups, 1, shape.head_dim
        self.queries = torch.randn(size, device=device, dtype=torch.bfloat16)
        self.attend = PagedAttention(*quantizers, self.cos, self.sin, launch)

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


def _random_pages(shape: Shape, quantizer: TurboQuantizer, device: torch.device) -> Pages:
    bits = quantizer.codebook.bits
    pages = page_count(shape.tokens, bits)
    heads = shape.batch, shape.kv_heads
    size = *heads, pages, 16, shape.head_dim
    words = torch.randint(-(2**15), 2**15, size, dtype=torch.int16, device=device)
    levels = quantizer.codebook.centroids
    scales = torch.rand(*heads, pages * page_tokens(bits), device=device) + 0.5
    length = torch.tensor([shape.tokens], dtype=torch.int32, device=device)
    return Pages(words, (scales / levels.square().mean().sqrt()).half(), length, bits)


def _dense(side: Pages, tokens: int, rows: int) -> PackedVectors:
    return to_dense(Pages(side.words[:rows], side.scales[:rows], side.length, side.bits), tokens)
