"""Packed states to attend to, around a large mean, and how far an answer is from another."""

import torch

from turbo_kv.cache.rope import RopeTable
from turbo_kv.cache.store import PackedStore, tensors
from turbo_kv.kernels.states import PackedStates
from turbo_kv.quant.centering import Center
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.quantizer import TurboQuantizer

KV_HEADS, GROUPS = 2, 3


def make_states(length, head_dim=64, *, batch=2, config=None, window=0, quantizer=None):
    """Packed states of random keys around a large mean, their spare room filled with NaN."""
    config = config or QuantConfig()
    quantizer = quantizer or TurboQuantizer(head_dim, config)
    shape = (batch, KV_HEADS, length, head_dim)
    stores = [PackedStore(quantizer.quantize(torch.randn(shape))) for _ in range(2)]
    for store in stores:
        for tensor in tensors(store._pages).values():
            spare = tensor[:, :, length:]
            spare.fill_(float("nan") if spare.is_floating_point() else 255)
    center = None
    if config.centering != "off":
        center = Center(
            20 * torch.randn(batch, KV_HEADS, head_dim), torch.randn(batch, KV_HEADS, head_dim)
        )
    frequencies = 1e4 ** -torch.linspace(0, 1, head_dim // 2)
    cos, sin = RopeTable(frequencies).cos_sin(0, length)
    keys, values = (store.packed for store in stores)
    exact = torch.randn(2, batch, KV_HEADS, window, head_dim)
    return PackedStates(keys, values, quantizer, quantizer, center, cos, sin, *exact)


def make_queries(states, length=1, groups=GROUPS):
    batch, kv_heads = states.keys.scales.shape[:2]
    return torch.randn(batch, kv_heads * groups, length, states.keys.head_dim)


def relative_error(approximation, exact):
    return ((approximation - exact).norm() / exact.norm()).item()
