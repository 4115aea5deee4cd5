"""The planner's arithmetic is the stored bytes, and the published example comes out."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from turbo_kv.measure.planner import exact_bytes, packed_bytes, plan
from turbo_kv.measure.report import StoredBytes
from turbo_kv.models.catalog import CATALOG, ModelCard
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.quantizer import TurboQuantizer

MIB, GIB = 2**20, 2**30
SEVEN = CATALOG["Qwen2.5-7B"]

configs = st.builds(
    QuantConfig,
    bits=st.sampled_from([2, 3, 4]),
    qjl=st.booleans(),
    qjl_budget=st.sampled_from(["on-top", "inside"]),
    qjl_on=st.sampled_from(["both", "keys"]),
    centering=st.sampled_from(["off", "bias", "mean"]),
    scale_bits=st.sampled_from([16, 8]),
)


def card(layers: int, kv_heads: int, head_dim: int) -> ModelCard:
    return replace(SEVEN, layers=layers, kv_heads=kv_heads, head_dim=head_dim)


@settings(max_examples=40)
@given(
    config=configs,
    head_dim=st.sampled_from([16, 64, 80, 96, 128]),
    kv_heads=st.integers(1, 3),
    tokens=st.integers(1, 9),
    batch=st.integers(1, 2),
)
def test_equals_what_the_quantizer_stores(config, head_dim, kv_heads, tokens, batch):
    states = torch.randn(batch, kv_heads, tokens, head_dim)
    stored = StoredBytes()
    for side in (config, config.for_values):
        stored += StoredBytes(**TurboQuantizer(head_dim, side).quantize(states).stored())
    planned = packed_bytes(card(1, kv_heads, head_dim), tokens, batch, config)
    assert replace(planned, means=0) == stored
    assert planned.means == (2 * batch * kv_heads * head_dim * 2) * (config.centering == "mean")


@pytest.mark.parametrize(
    ("choices", "mebibytes"),
    [
        ({}, 87.5),
        ({"scale_bits": 8}, 85.75),
        ({"qjl": True}, 119.0),
        ({"qjl": True, "qjl_on": "keys"}, 103.25),
        ({"qjl": True, "qjl_budget": "inside"}, 91.0),
        ({"qjl": True, "qjl_budget": "inside", "scale_bits": 8}, 87.5),
        ({"bits": 2}, 59.5),
        ({"bits": 4}, 115.5),
    ],
)
def test_a_7b_model_at_8192_tokens(choices, mebibytes):
    assert exact_bytes(SEVEN, 8192, 1) == 448 * MIB
    stored = packed_bytes(SEVEN, 8192, 1, QuantConfig(**choices))
    assert (stored.total - stored.means) / MIB == mebibytes
    assert stored.means == 56 * 1024


def test_norms_in_fp32_would_cost_twice_those_in_fp16():
    stored = packed_bytes(SEVEN, 8192, 1, QuantConfig(centering="off"), norm_bytes=4)
    assert stored.total / MIB == 91.0


@given(
    name=st.sampled_from(sorted(CATALOG)),
    batch=st.integers(1, 8),
    memory=st.integers(1, 200 * GIB),
    config=configs,
)
def test_the_longest_context_fits_and_one_more_token_does_not(name, batch, memory, config):
    result = plan(CATALOG[name], 100, batch, memory, config)
    free = memory - CATALOG[name].weights_bytes
    for longest, size in (
        (result.longest_before, lambda n: exact_bytes(CATALOG[name], n, batch)),
        (result.longest_after, lambda n: packed_bytes(CATALOG[name], n, batch, config).total),
    ):
        assert size(longest) <= free or longest == 0
        assert size(longest + 1) > free


def test_ratio_and_bits_follow_from_the_bytes():
    result = plan(SEVEN, 8192, 2, 80 * GIB, QuantConfig(centering="off"))
    assert result.before_bytes == 2 * 448 * MIB
    assert result.ratio == 5.12
    assert result.bits_per_value == 3.125
    stored = result.to_dict()["memory"]
    assert stored["after_bytes"] == sum(stored["stored"].values()) == 2 * 87.5 * MIB


@pytest.mark.parametrize(("name", "values"), [("context", (0, 1, 1)), ("batch", (1, -1, 1))])
def test_refuses_what_is_not_positive(name, values):
    tokens, batch, memory = values
    with pytest.raises(ValueError, match=f"{name} is .*choose 1 or more"):
        plan(SEVEN, tokens, batch, memory, QuantConfig())
