"""Laws of the rules for a vector's scale."""

import json

import pytest
import torch

from turbo_kv.bench.scale import RULES, RescaledQuantizer, rescaled_cache, run
from turbo_kv.cache.kv_cache import TurboKVCache
from turbo_kv.measure.next_token import compare
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.quantizer import TurboQuantizer


@pytest.fixture(scope="module")
def vectors():
    return torch.randn(1, 2, 2000, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def restored(vectors):
    quantizers = {
        name: RescaledQuantizer(64, QuantConfig(), torch.device("cpu"), rule)
        for name, rule in RULES.items()
    }
    return {name: each.dequantize(each.quantize(vectors)) for name, each in quantizers.items()}


def error(restored, vectors):
    return ((restored - vectors).square().sum(-1) / vectors.square().sum(-1)).mean()


def slope(restored, vectors):
    return ((restored * vectors).sum(-1) / vectors.square().sum(-1)).mean()


def test_matched_norm_is_the_library_s(vectors, restored):
    library = TurboQuantizer(64)
    assert torch.equal(restored["matched norm"], library.dequantize(library.quantize(vectors)))
    torch.testing.assert_close(
        restored["matched norm"].norm(dim=-1), vectors.norm(dim=-1), rtol=2e-3, atol=0
    )


def test_least_squares_has_the_least_error(vectors, restored):
    errors = {name: error(each, vectors) for name, each in restored.items()}
    assert min(errors, key=errors.get) == "least squares"


def test_unbiased_has_slope_one(vectors, restored):
    torch.testing.assert_close(
        slope(restored["unbiased"], vectors), torch.tensor(1.0), rtol=0, atol=1e-3
    )
    assert slope(restored["matched norm"], vectors) < 0.99


def test_the_rules_differ_in_scale_alone(vectors):
    packed = [
        RescaledQuantizer(64, QuantConfig(), torch.device("cpu"), rule).quantize(vectors)
        for rule in RULES.values()
    ]
    for other in packed[1:]:
        assert torch.equal(other.codes, packed[0].codes)
        assert other.nbytes == packed[0].nbytes
        assert not torch.equal(other.scales, packed[0].scales)


@pytest.mark.parametrize("rule", RULES)
def test_zero_vectors_stay_zero(rule):
    quantizer = RescaledQuantizer(64, QuantConfig(), torch.device("cpu"), RULES[rule])
    zeros = torch.zeros(1, 1, 3, 64)
    assert torch.equal(quantizer.dequantize(quantizer.quantize(zeros)), zeros)


def test_the_cache_with_matched_norm_is_the_library_s(random_qwen2):
    tokens = torch.randint(128, (1, 64), generator=torch.Generator().manual_seed(0))
    caches = (
        rescaled_cache(random_qwen2.config, QuantConfig(), RULES["matched norm"]),
        TurboKVCache(random_qwen2.config, read_back=True),
        rescaled_cache(random_qwen2.config, QuantConfig(), RULES["plain norm"]),
    )
    same, library, other = (compare(random_qwen2, tokens, cache).predictions for cache in caches)
    assert torch.equal(same.kl, library.kl)
    assert not torch.equal(other.kl, library.kl)


def test_a_run_compares_every_rule_at_every_width():
    result = run("Prose", context=64)
    assert {(row["rule"], row["bits"]) for row in result["rows"]} == {
        (rule, bits) for rule in RULES for bits in (2, 3, 4)
    }
    for row in result["rows"]:
        assert (row["excess"] == row["excess_stderr"] == 0) == (row["rule"] == "matched norm")
    assert json.dumps(result)
