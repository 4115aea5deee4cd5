"""One decode step of a Qwen2.5-7B of random weights, over a bf16 cache or over pages.

The same operations but for the cache: what attention reads and how a token gets in. Weights say
nothing here, so a result is a speed and no quality. Lengths live on the device and nothing waits
for it, so that a step is one CUDA graph. Does not know clocks.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from turbo_kv.bench.step_ops import added_and_normed, gated, turn
from turbo_kv.kernels.append import append
from turbo_kv.kernels.decode_triton import PagedAttention
from turbo_kv.kernels.pages import SIDES, Pages, Side, empty_pages
from turbo_kv.quant.centering import Center
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.quantizer import TurboQuantizer

LAYERS, HIDDEN, INNER, VOCABULARY = 28, 3584, 18944, 152064
KV_HEADS, GROUPS, HEAD_DIM = 4, 7, 128
THETA = 1e6
ROWS_AT_ONCE = 2**16  # of fp64 angles
HEADS = (KV_HEADS * GROUPS, KV_HEADS, KV_HEADS)  # of q, k, v

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]  # layer, q, k, v (B, H, 1, D)


@dataclass(frozen=True)
class Weights:
    """One layer, bf16."""

    qkv: Tensor
    bias: Tensor
    output: Tensor
    gate_up: Tensor
    down: Tensor


class Model:
    """Random weights, and the step that they take."""

    def __init__(self) -> None:
        self.layers = [
            Weights(
                _random(sum(HEADS) * HEAD_DIM, HIDDEN),
                _random(sum(HEADS) * HEAD_DIM),
                _random(HIDDEN, HEADS[0] * HEAD_DIM),
                _random(2 * INNER, HIDDEN),
                _random(HIDDEN, INNER),
            )
            for _ in range(LAYERS)
        ]
        self.embedding, self.head = _random(VOCABULARY, HIDDEN), _random(VOCABULARY, HIDDEN)
        self.norm = torch.ones(HIDDEN, dtype=torch.bfloat16, device="cuda")

    def step(self, tokens: Tensor, cos_sin: tuple[Tensor, Tensor], attend: Attend) -> Tensor:
        """The next token (B,) after `tokens` (B,); cos_sin: of their slot, fp32 (1, D)."""
        x = F.embedding(tokens, self.embedding)  # (B, C)
        more = torch.zeros_like(x)
        for index, layer in enumerate(self.layers):
            normed = added_and_normed(x, more, self.norm)
            qkv = F.linear(normed, layer.qkv, layer.bias).view(len(x), -1, HEAD_DIM)
            q, k, v = qkv.split(HEADS, dim=1)  # (B, H, D)
            turn(qkv[:, : HEADS[0] + HEADS[1]], *cos_sin)
            attended = attend(index, q.unsqueeze(2), k.unsqueeze(2), v.unsqueeze(2))
            more = F.linear(attended.reshape(len(x), -1), layer.output)
            normed = added_and_normed(x, more, self.norm)
            more = F.linear(gated(F.linear(normed, layer.gate_up)), layer.down)
        return F.linear(added_and_normed(x, more, self.norm), self.head).argmax(-1)


class ExactCache:
    """bf16 keys and values of a fixed number of slots; a new token takes the last."""

    def __init__(self, batch: int, tokens: int, backend: SDPBackend) -> None:
        self.backend = backend
        shape = (LAYERS, 2, batch, KV_HEADS, tokens, HEAD_DIM)
        self.states = torch.empty(shape, dtype=torch.bfloat16, device="cuda")
        for layer in self.states:
            layer.normal_()

    @property
    def nbytes(self) -> int:
        return self.states.nbytes

    def attend(self, index: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The queries of a KV head are rows of one matrix, which is what SDPA does fastest."""
        keys, values = self.states[index]
        keys[:, :, -1:], values[:, :, -1:] = k, v
        grouped = q.reshape(len(q), KV_HEADS, GROUPS, HEAD_DIM)
        with sdpa_kernel(self.backend):
            return F.scaled_dot_product_attention(grouped, keys, values)


class PackedCache:
    """Pages of random codes, centred, of a fixed number of slots; a new token takes the last."""

    def __init__(self, batch: int, tokens: int, codebook: str) -> None:
        config = QuantConfig(codebook=codebook)
        self.quantizers = tuple(
            TurboQuantizer(HEAD_DIM, each, "cuda") for each in (config, config.for_values)
        )
        shape = (batch, KV_HEADS, tokens, HEAD_DIM)
        self.length = torch.full((1,), tokens, dtype=torch.int32, device="cuda")
        self.layers = [tuple(self._pages(shape, side) for side in SIDES) for _ in range(LAYERS)]
        means = torch.randn(2, batch, KV_HEADS, HEAD_DIM, device="cuda")
        self.center = Center(*means)
        self.table = rotary_table(0, max(1024, self.layers[0][0].capacity))
        self._attend = PagedAttention(*self.quantizers, *self.table)

    @property
    def nbytes(self) -> int:
        """Of pages and the rotary table they need."""
        sides = [side for layer in self.layers for side in layer]
        pages = sum(side.words.nbytes + side.scales.nbytes for side in sides)
        return pages + sum(each.nbytes for each in self.table)

    def attend(self, index: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        append((k, v), self.layers[index], self.quantizers, self.center, self.table)
        return self._attend(q, *self.layers[index], self.center)

    def _pages(self, shape: tuple[int, int, int, int], side: Side) -> Pages:
        pages = empty_pages(shape, self.quantizers[0].codebook.bits, side, "cuda")
        pages.words.random_(-(2**15), 2**15)
        pages.scales.uniform_(0.5, 1.5).mul_(HEAD_DIM**0.5)
        return replace(pages, length=self.length)


def rotary_table(first: int, stop: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of Qwen2.5's slots from `first` to `stop`, fp32 (rows, D)."""
    frequencies = THETA ** -(torch.arange(0, HEAD_DIM, 2, device="cuda").double() / HEAD_DIM)
    cos = torch.empty(stop - first, HEAD_DIM, device="cuda")
    sin = torch.empty_like(cos)
    for start in range(first, stop, ROWS_AT_ONCE):
        slots = torch.arange(start, min(start + ROWS_AT_ONCE, stop), device="cuda").double()
        angles = torch.outer(slots, frequencies).repeat(1, 2)
        rows = slice(start - first, start - first + len(slots))
        cos[rows], sin[rows] = angles.cos(), angles.sin()
    return cos, sin


def _random(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.bfloat16, device="cuda").normal_(std=0.02)
