"""Laws of the models of exact shapes: their parameters and their caches are the published ones."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from turbo_kv.bench.shapes import MLP_WIDTHS, measure_shape, shape_config
from turbo_kv.measure.planner import exact_bytes, packed_bytes
from turbo_kv.models.catalog import TINY, card
from turbo_kv.quant.config import QuantConfig

SMALL = replace(card("Qwen2.5-0.5B"), layers=3, query_heads=2, kv_heads=1, hidden_size=128)


@pytest.mark.parametrize("size", MLP_WIDTHS)
def test_the_shapes_have_the_published_number_of_parameters(size):
    known = card(f"Qwen2.5-{size}")
    layers = 2  # each of the others is like the second
    with torch.device("meta"):
        one, two = (
            AutoModelForCausalLM.from_config(shape_config(known, num_hidden_layers=count))
            for count in (1, layers)
        )
    first, second = one.num_parameters(), two.num_parameters()
    assert first + (known.layers - 1) * (second - first) == known.params


@pytest.mark.parametrize("config", [QuantConfig(), QuantConfig(bits=2, centering="off", qjl=True)])
def test_the_bytes_are_those_of_the_planner(config):
    found = measure_shape(SMALL, 128, "cpu", config)
    assert found["memory"]["before_bytes"] == exact_bytes(SMALL, 128, 1)
    assert found["memory"]["after_bytes"] == packed_bytes(SMALL, 128, 1, config).total
    assert min(found["seconds"].values()) > 0


def test_what_has_no_shape_or_no_positions_is_refused():
    with pytest.raises(ValueError, match="shape:tiny has no known shape"):
        shape_config(TINY)
    with pytest.raises(ValueError, match="reads at most 32,768 tokens"):
        measure_shape(SMALL, 40_000, "cpu", QuantConfig())
