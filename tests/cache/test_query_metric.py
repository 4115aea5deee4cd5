"""Laws of what is known of queries from weights alone, and of a cache that heeds it."""

from copy import deepcopy

import pytest
import torch

from turbo_kv.cache.capture import capture
from turbo_kv.cache.kv_cache import TurboKVCache
from turbo_kv.cache.query_metric import POSITIONS, query_metrics, turned
from turbo_kv.cache.rope import RopeTable
from turbo_kv.measure.roundtrip import roundtrip
from turbo_kv.models.load import load
from turbo_kv.models.text import prepare
from turbo_kv.quant.config import QuantConfig

HEEDING = QuantConfig(codebook="query-trellis")


@pytest.fixture(scope="module")
def seen():
    loaded = load("tiny")
    tokens = prepare(loaded.tokenizer, None, 512, 8192).tokens
    return loaded.model, tokens, capture(loaded.model, tokens)


def test_moments_over_positions_keep_their_trace_and_forget_fast_phases():
    cos_sin = RopeTable.from_config(load("tiny").model.config).cos_sin(0, POSITIONS)
    rows = torch.randn(2, 256, 64, generator=torch.Generator().manual_seed(4))
    rows *= torch.logspace(1, -1, 64)
    second = rows.mT @ rows
    moved = turned(second, cos_sin)
    trace = torch.einsum("hii->h", second)
    assert torch.allclose(torch.einsum("hii->h", moved), trace, rtol=1e-4)
    first, partner = moved[:, 0, 0], moved[:, 32, 32]
    assert ((first - partner).abs() < 0.3 * (first + partner)).all()
    assert not torch.allclose(second[:, 0, 0], second[:, 32, 32], rtol=0.3)


def test_a_metric_of_weights_foretells_where_queries_look(seen):
    """Directions that it calls strong are strong in the queries of a text, and weak ones weak."""
    _, _, kept = seen
    for layer in kept.layers:
        heads = len(layer.query_metric)
        queries = layer.queries[0].float().unflatten(0, (heads, -1)).flatten(1, 2)  # (H, G T, D)
        _, axes = torch.linalg.eigh(layer.query_metric)
        power = (queries @ axes).square().mean(1)  # (H, D), from the weakest axis up
        quarter = power.shape[-1] // 4
        assert (power[:, -quarter:].mean(1) > 2 * power[:, :quarter].mean(1)).all()


def test_a_cache_and_the_analysis_heed_alike(seen):
    """The same keys, codes and bytes as of the plain trellis, and less of what queries see."""
    model, _, kept = seen
    cache = TurboKVCache.for_model(model, HEEDING)
    layer, states = cache.layers[3], kept.layers[3]
    layer.update(states.keys, states.values)
    keys, values = layer.restore()
    heeding, plain = (
        roundtrip(kept, 3, QuantConfig(codebook=name)) for name in ("query-trellis", "trellis")
    )
    assert torch.equal(keys, heeding.keys)
    assert torch.equal(values, heeding.values)
    assert torch.equal(values, plain.values)
    assert heeding.stored == plain.stored

    def cost(restored):
        errors = (restored - states.keys)[0]
        return ((errors @ states.query_metric) * errors).sum()

    assert cost(heeding.keys) < 0.9 * cost(plain.keys)


def test_what_has_no_query_projection_of_its_own_is_refused(seen):
    model, _, _ = seen
    with pytest.raises(ValueError, match="for_model"):
        TurboKVCache(model.config, HEEDING)
    with pytest.raises(ValueError, match="choose 'trellis'"):
        TurboKVCache(model.config, HEEDING, query_metrics=[None] * 12)
    model.model.layers[0].self_attn.q_norm = torch.nn.Identity()
    try:
        assert query_metrics(model)[0] is None
    finally:
        del model.model.layers[0].self_attn.q_norm


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8])
def test_quantized_weights_say_nothing_of_queries(random_qwen2, dtype):
    model = deepcopy(random_qwen2)
    projection = model.model.layers[1].self_attn.q_proj
    codes = torch.zeros(projection.weight.shape, dtype=dtype)
    projection.weight = torch.nn.Parameter(codes, requires_grad=False)
    metrics = query_metrics(model)
    assert metrics[0] is not None
    assert metrics[1] is None
