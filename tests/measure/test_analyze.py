"""The straight line on a random model (laws) and on the bundled one (what it must show)."""

import json
from dataclasses import asdict, fields, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from mps_mode import MpsMode

from turbo_kv.measure.analyze import Prepared, analyze, measure, prepare
from turbo_kv.measure.attention_map import attention_map
from turbo_kv.measure.metrics import ExactAttention
from turbo_kv.measure.planner import exact_bytes, packed_bytes
from turbo_kv.measure.report import LayerReport, Report, Request
from turbo_kv.measure.roundtrip import roundtrip
from turbo_kv.models.catalog import TINY
from turbo_kv.quant.config import QuantConfig

TOKENS = 300


@pytest.fixture(scope="module")
def prepared(random_checkpoint) -> Prepared:
    return prepare(Request(model=str(random_checkpoint), context=TOKENS))


def complete(prepared: Prepared, **choices) -> Report:
    *_, report = measure(prepared, QuantConfig(**choices))
    return report


def mean(report: Report, name: str) -> float:
    return float(report.grid(name).mean())


def test_a_report_grows_by_a_layer_and_ends_complete(prepared):
    reports = list(measure(prepared, QuantConfig()))
    assert [len(report.layers) for report in reports] == [1, 2, 3]
    assert [report.complete for report in reports] == [False, False, True]
    for earlier, later in pairwise(reports):
        assert later.layers[:-1] == earlier.layers
    assert set(reports[-1].timing) == {"load", "text", "capture", "exact", "measure"}


def test_measuring_again_gives_the_same_and_leaves_the_capture_alone(prepared):
    before = [layer.keys.clone() for layer in prepared.capture.layers]
    first, other, again = (complete(prepared, bits=bits) for bits in (3, 2, 3))
    for name in (f.name for f in fields(LayerReport) if f.name not in ("before_bytes", "after")):
        assert np.array_equal(first.grid(name), again.grid(name)), name
    assert not np.array_equal(first.grid("attention_kl"), other.grid("attention_kl"))
    for keys, layer in zip(before, prepared.capture.layers):
        assert torch.equal(keys, layer.keys)


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"bits": 2, "centering": "off"},
        {"bits": 4, "centering": "bias"},
        {"qjl": True},
        {"qjl": True, "qjl_budget": "inside", "qjl_on": "keys"},
    ],
)
def test_memory_is_the_planners_arithmetic(prepared, choices):
    report, config = complete(prepared, **choices), QuantConfig(**choices)
    card = replace(TINY, layers=3, kv_heads=2, head_dim=32)
    assert report.before_bytes == exact_bytes(card, TOKENS, 1)
    assert report.after == packed_bytes(card, TOKENS, 1, config)


def test_more_bits_are_better_in_every_figure(prepared):
    two, three, four = (complete(prepared, bits=bits) for bits in (2, 3, 4))
    for worse, better in pairwise((two, three, four)):
        for name in ("key_relative_mse", "value_relative_mse", "attention_kl"):
            assert mean(better, name) < 0.6 * mean(worse, name), name
        for name in ("key_cosine", "value_cosine", "logit_correlation", "top1"):
            assert mean(better, name) > mean(worse, name), name


def test_uncentred_keys_look_fine_to_cosine_and_break_attention(prepared):
    off, bias, mean_ = (complete(prepared, centering=c) for c in ("off", "bias", "mean"))
    assert mean(off, "key_cosine") > 0.975
    assert mean(off, "attention_kl") > 5 * mean(mean_, "attention_kl")
    assert mean(off, "attention_kl") > 5 * mean(bias, "attention_kl")
    assert off.after.codes == mean_.after.codes


def test_a_constant_turned_with_the_position_costs_nothing_once_centred(prepared):
    """Any vector added to every key before RoPE leaves the size of the error as it was."""
    capture, config = prepared.capture, QuantConfig()
    layer = capture.layers[0]
    constant = 40 * torch.randn(1, 2, 1, 32, generator=torch.Generator().manual_seed(1))
    half = torch.cat((-constant[..., 16:], constant[..., :16]), dim=-1)
    turned = constant * capture.cos + half * capture.sin
    moved = replace(layer, keys=layer.keys + turned)
    shifted = replace(capture, layers=(moved, *capture.layers[1:]))
    error = (roundtrip(capture, 0, config).keys - layer.keys).norm()
    shifted_error = (roundtrip(shifted, 0, config).keys - moved.keys).norm()
    assert shifted_error == pytest.approx(error.item(), rel=0.01)


def test_a_sketch_of_keys_alone_leaves_values_as_they_are(prepared):
    plain, keys_only = complete(prepared), complete(prepared, qjl=True, qjl_on="keys")
    assert np.array_equal(plain.grid("value_cosine"), keys_only.grid("value_cosine"))
    assert not np.array_equal(plain.grid("key_cosine"), keys_only.grid("key_cosine"))


def test_what_is_left_is_plain_data(prepared):
    report = complete(prepared)
    for name, value in asdict(report.layers[0]).items():
        assert isinstance(value, np.ndarray | int | dict), name
    assert Report.from_dict(json.loads(json.dumps(report.to_dict()))).after == report.after


def test_names_the_layer_that_cannot_be_stored(prepared):
    layers = prepared.capture.layers
    huge = replace(layers[1], values=layers[1].values * 1e6)
    nobias = replace(layers[2], key_bias=None)
    broken = replace(prepared, capture=replace(prepared.capture, layers=(layers[0], huge, nobias)))
    with pytest.raises(ValueError, match="layer 1: the largest norm is"):
        complete(broken)
    with pytest.raises(ValueError, match="layer 2: centering is 'bias'"):
        roundtrip(broken.capture, 2, QuantConfig(centering="bias"))


@pytest.mark.parametrize("choices", [{}, {"qjl": True}, {"centering": "bias", "rotation": False}])
def test_measuring_uses_only_what_mps_has(prepared, choices):
    complete(prepared, **choices)  # makes the tables, on the CPU wherever the model is
    layer = prepared.capture.layers[0]
    with MpsMode() as mode:
        ExactAttention(layer.queries, layer.keys, layer.values, layer.scaling)
        complete(prepared, **choices)
        attention_map(prepared, QuantConfig(**choices), 1, 2)
    assert "aten::masked_fill_.Scalar" in mode.seen


def test_analyze_reports_progress_from_nothing_to_all(random_checkpoint):
    seen = []
    report = analyze(
        str(random_checkpoint),
        context=64,
        config=QuantConfig(bits=4),
        progress=lambda fraction, text: seen.append(fraction),
    )
    assert (report.complete, report.tokens, report.queries) == (True, 64, 64)
    assert report.config.bits == 4
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


@pytest.fixture(scope="module")
def bundled() -> Prepared:
    return prepare(Request(model="tiny", context=2048, device="cpu"))


def test_the_bundled_model_at_three_bits(bundled):
    report = complete(bundled)
    assert report.ratio >= 4.89
    assert report.bits_per_value <= 3.27
    assert mean(report, "key_cosine") >= 0.994
    assert report.queries == 256


def test_the_bundled_model_breaks_without_centring_and_more_without_rotation(bundled):
    centred, off = complete(bundled), complete(bundled, centering="off")
    plain = complete(bundled, centering="off", rotation=False)
    first = [report.grid("logit_correlation")[0].mean() for report in (centred, off)]
    assert first[0] - first[1] > 0.1
    assert mean(off, "attention_kl") >= 5 * mean(centred, "attention_kl")
    assert mean(plain, "attention_kl") > mean(off, "attention_kl")
    assert mean(off, "key_cosine") > 0.98  # the hazard: cosine does not show it


def test_the_bundled_models_map_agrees_with_its_report(bundled):
    report = complete(bundled)
    layer, head = 5, 4
    shown = attention_map(bundled, QuantConfig(), layer, head)
    assert shown.exact.shape == (256, 256)
    assert shown.top1 == pytest.approx(report.grid("top1")[layer, head], abs=0.01)
