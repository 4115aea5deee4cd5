"""The walkthrough's steps on one head of a captured text: the library's own parts in, numbers out.

Every step is the method as it stands by default, but for the one thing that the step turns. A
head is cut out of the capture and stored by itself, since every vector is coded alone. Knows
nothing of how the numbers are drawn or said.
"""

from dataclasses import replace
from functools import cache, lru_cache

import numpy as np
import torch
from torch import Tensor

from turbo_kv.cache.capture import Capture
from turbo_kv.measure.analyze import BF16_BYTES, Prepared
from turbo_kv.measure.attention_map import causal_softmax
from turbo_kv.measure.lesson_report import (
    Coordinates,
    Estimate,
    Estimates,
    Lessons,
    Level,
    Levels,
    Norms,
    Price,
    Prices,
    Rotation,
    Swap,
)
from turbo_kv.measure.metrics import ExactAttention, relative_mse
from turbo_kv.measure.roundtrip import Roundtrip, roundtrip
from turbo_kv.quant.centering import Center
from turbo_kv.quant.config import BITS, QuantConfig
from turbo_kv.quant.lloyd_max import codebook, density, probabilities
from turbo_kv.quant.packing import unpack
from turbo_kv.quant.quantizer import TurboQuantizer

BINS = 80
QUERIES, KEYS, SEEDS = 8, 32, 16
"""Queries and keys whose products are estimated, spread evenly, and seeds to estimate them with."""

SKETCHES = {
    "off": QuantConfig(),
    "on-top": QuantConfig(qjl=True),
    "inside": QuantConfig(qjl=True, qjl_budget="inside"),
}


@torch.inference_mode()
def lessons(prepared: Prepared, layer: int, head: int) -> Lessons:
    """Measure every step on query head `head` of `layer` and on the KV head that it reads.

    Raises ValueError for a layer or head that does not exist.
    """
    model = prepared.model
    for name, value, end in (("layer", layer, model.layers), ("head", head, model.query_heads)):
        if not 0 <= value < end:
            raise ValueError(f"{name} is {value}; choose 0 to {end - 1}")
    kv_head = head * model.kv_heads // model.query_heads
    one = _one_head(prepared.capture, layer, head, kv_head)
    captured = one.layers[0]
    exact = ExactAttention(captured.queries, captured.keys, captured.values, captured.scaling)
    return Lessons(
        layer=layer,
        head=head,
        kv_head=kv_head,
        rotation=rotation(one),
        levels=levels(one),
        norms=norms(prepared.capture, kv_head),
        estimates=estimates(one, exact),
        prices=prices(prepared, one, exact),
    )


def _one_head(capture: Capture, layer: int, head: int, kv_head: int) -> Capture:
    """A capture of one layer with one query head and the KV head it reads."""
    whole, here = capture.layers[layer], slice(kv_head, kv_head + 1)
    part = replace(
        whole,
        queries=whole.queries[:, head : head + 1],
        keys=whole.keys[:, here],
        values=whole.values[:, here],
        key_bias=None if whole.key_bias is None else whole.key_bias[here],
        value_bias=None if whole.value_bias is None else whole.value_bias[here],
        query_metric=None if whole.query_metric is None else whole.query_metric[here],
    )
    return replace(capture, layers=(part,))


def rotation(one: Capture) -> Rotation:
    """The keys as the model made them, in their own channels and rotated."""
    keys = one.layers[0].keys.float()
    edges, theory = _bins(keys.shape[-1])
    quantizer = _quantizer(keys.shape[-1], QuantConfig(), keys.device)
    plain, rotated = (_coordinates(_unit(x), edges) for x in (keys, quantizer.rotate(keys)))
    return Rotation(edges, theory, plain, rotated)


def levels(one: Capture) -> Levels:
    """The centred, rotated keys against each codebook, and what each level is used for."""
    content = _content(one)
    width = content.shape[-1]
    edges, theory = _bins(width)
    unit = _unit(_quantizer(width, QuantConfig(), content.device).rotate(content))
    books = tuple(_level(content, QuantConfig(bits=bits)) for bits in BITS)
    return Levels(edges, theory, _histogram(unit, edges), books)


def norms(capture: Capture, kv_head: int) -> Norms:
    """Constant part and content of every layer's keys, in norms."""
    figures = []
    for index in range(len(capture.layers)):
        one = _one_head(capture, index, 0, kv_head)
        content = _content(one).norm(dim=-1).mean(dim=-1)
        figures.append((_center(one).key_mean.norm().item(), content.item()))
    constant, content = np.array(figures).T
    return Norms(constant, content)


def estimates(one: Capture, exact: ExactAttention) -> Estimates:
    """Products of queries with stored keys, over seeds, without a sketch and with it."""
    captured = one.layers[0]
    queries = _evenly(captured.queries.float() * captured.scaling, QUERIES)
    keys = _evenly(_content(one), KEYS)
    truth = _numpy(queries @ keys.mT).flatten()  # (pairs,)
    centred = truth - truth.mean()
    ways = []
    for sketch, config in SKETCHES.items():
        estimate = np.stack([_estimate(queries, keys, config, seed) for seed in range(SEEDS)])
        restored = roundtrip(one, 0, config)
        ways.append(
            Estimate(
                sketch=sketch,
                estimate=estimate[0],
                slope=float((estimate * centred).mean() / np.square(centred).mean()),
                mean_error=float((estimate - truth).mean()),
                spread=float(np.sqrt(estimate.var(axis=0, ddof=1).mean())),
                kl=exact.compare(restored.keys, restored.values).kl.item(),
                bits_per_value=_bits_per_value(one, restored),
            )
        )
    return Estimates(truth, SEEDS, tuple(ways))


def prices(prepared: Prepared, one: Capture, exact: ExactAttention) -> Prices:
    """Bytes and attention of every number of bits, with and without centring."""
    ways = []
    for centering in ("mean", "off"):
        for bits in BITS:
            config = QuantConfig(bits=bits, centering=centering)
            restored = roundtrip(one, 0, config)
            fidelity = exact.compare(restored.keys, restored.values)
            ways.append(
                Price(
                    bits=bits,
                    centering=centering,
                    nbytes=restored.stored.total,
                    bits_per_value=_bits_per_value(one, restored),
                    kl=fidelity.kl.item(),
                    top1=fidelity.top1.item(),
                    swap=_first_swap(prepared, one, restored),
                )
            )
    captured = one.layers[0]
    before = (captured.keys.numel() + captured.values.numel()) * BF16_BYTES
    return Prices(before, tuple(ways))


def _first_swap(prepared: Prepared, one: Capture, restored: Roundtrip) -> Swap | None:
    """The first query whose strongest key is another one on restored keys."""
    captured = one.layers[0]
    queries = captured.queries[0, 0].float() * captured.scaling  # (Q, D)
    before, after = (
        causal_softmax(queries @ keys[0, 0].float().T).argmax(dim=-1)
        for keys in (captured.keys, restored.keys)
    )
    changed = (before != after).nonzero()
    if not len(changed):
        return None
    row = changed[0].item()
    tokens = one.tokens[0]
    places = len(tokens) - len(queries) + row, before[row].item(), after[row].item()
    return Swap(*places, *(prepared.decode(tokens[place].item()) for place in places))


@lru_cache(maxsize=64)
def _quantizer(width: int, config: QuantConfig, device: torch.device) -> TurboQuantizer:
    """Kept for the next head, with the tables of every seed."""
    return TurboQuantizer(width, config, device)


def _estimate(queries: Tensor, keys: Tensor, config: QuantConfig, seed: int) -> np.ndarray:
    """All products of queries (Q, D) with keys (K, D) stored under `seed`: (Q * K,)."""
    quantizer = _quantizer(keys.shape[-1], replace(config, seed=seed), keys.device)
    stored = quantizer.quantize(keys[None, None])
    return _numpy(queries @ quantizer.dequantize(stored)[0, 0].mT).flatten()


def _level(content: Tensor, config: QuantConfig) -> Level:
    width = content.shape[-1]
    quantizer = _quantizer(width, config, content.device)
    stored = quantizer.quantize(content)
    codes = unpack(stored.codes, config.bits, width).flatten()
    book = codebook(config.bits, width)
    return Level(
        bits=config.bits,
        centroids=_numpy(book.centroids),
        boundaries=_numpy(book.boundaries),
        used=_numpy(codes.long().bincount(minlength=2**config.bits)) / len(codes),
        expected=_numpy(probabilities(config.bits, width)),
        error=relative_mse(content, quantizer.dequantize(stored)).item(),
        promised=book.distortion,
    )


def _center(one: Capture) -> Center:
    captured = one.layers[0]
    return Center.from_mean(captured.keys.float(), captured.values.float(), one.cos, one.sin)


def _content(one: Capture) -> Tensor:
    """The keys of a one-head capture without their constant part: (1, 1, T, D)."""
    return one.layers[0].keys.float() - _center(one).key_offset(one.cos, one.sin)


def _coordinates(unit: Tensor, edges: np.ndarray) -> Coordinates:
    energy = unit.square().mean(dim=(0, 1, 2))
    return Coordinates(_numpy(energy), _histogram(unit, edges), unit.abs().max().item())


@cache
def _bins(width: int) -> tuple[np.ndarray, np.ndarray]:
    """Edges of the bins, and the theoretical density in each bin's middle."""
    edges = np.linspace(-1, 1, BINS + 1)
    middles = torch.from_numpy((edges[1:] + edges[:-1]) / 2)
    return edges, _numpy(density(middles, width))


def _histogram(unit: Tensor, edges: np.ndarray) -> np.ndarray:
    return np.histogram(_numpy(unit), edges, density=True)[0]


def _unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=-1)


def _evenly(states: Tensor, count: int) -> Tensor:
    """About `count` of the vectors (1, 1, T, D), evenly spread: (count, D)."""
    vectors = states[0, 0]
    return vectors[:: max(1, len(vectors) // count)][:count]


def _bits_per_value(one: Capture, restored: Roundtrip) -> float:
    captured = one.layers[0]
    return 8 * restored.stored.total / (captured.keys.numel() + captured.values.numel())


def _numpy(x: Tensor) -> np.ndarray:
    return x.cpu().numpy()
