"""The attention benchmark: right before fast, and its table says what was measured."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from turbo_kv.bench import attention_packed
from turbo_kv.bench.attention import result_name, run
from turbo_kv.bench.attention_report import speed_up, table
from turbo_kv.bench.attention_ways import Shape, checked, fastest
from turbo_kv.cache.capture import capture
from turbo_kv.models.text import prose
from turbo_kv.models.tiny import FOLDER

pytest.importorskip("triton", reason="Triton has no wheel for this platform")
SMALL = Shape(1, 2, 3, 64, 200)


@pytest.fixture(scope="module")
def measured():
    """A result of this machine's CPU path, as a file would give it back."""
    from turbo_kv.bench import attention_cpu

    rows = [vars(way) for way in attention_cpu.ways(SMALL)]
    stamp = {"turbo_kv": "0", "commit": "c", "torch": "2", "date": "2026-01-01T00:00:00"}
    shape = {"batch": 1, "kv_heads": 4, "groups": 7, "head_dim": 128, "tokens": 2048}
    result = {"stamp": stamp, "device": "cpu", "rows": [shape | {"ways": rows}]}
    return json.loads(json.dumps(result))


def test_every_way_is_timed_and_near_the_specification(measured):
    ways = measured["rows"][0]["ways"]
    assert len({way["name"] for way in ways}) == len(ways) == 6
    assert [way["ours"] for way in ways].count(True) == 2
    timed = [way for way in ways if way["missing"] is None]
    assert len(timed) >= 5
    assert all(0 < way["low"] <= way["median"] <= way["high"] for way in timed)
    assert all(way["error"] < 1e-2 for way in timed)


def test_without_a_compiler_the_reason_takes_the_place_of_a_time(monkeypatch):
    from turbo_kv.bench import attention_cpu

    monkeypatch.setattr(attention_cpu.choose, "why_not_c", lambda *_: "no C compiler")
    missing = [way for way in attention_cpu.ways(SMALL) if way.missing]
    assert [(way.name, way.missing) for way in missing] == [
        ("turbo_kv, 3 bits, compiled C", "no C compiler")
    ]


@pytest.mark.parametrize("error", [3e-3, float("inf"), float("nan")])
def test_a_wrong_way_stops_the_benchmark(error):
    with pytest.raises(ArithmeticError, match="split: relative error"):
        checked("split", error)


def test_a_wrong_kernel_keeps_no_result(monkeypatch):
    from turbo_kv.kernels import pagewise

    monkeypatch.setattr(pagewise, "attention", lambda queries, *_, **__: queries * 0)
    with pytest.raises(ArithmeticError, match="PyTorch: relative error"):
        run([SMALL])


def test_the_fastest_ignores_what_is_missing():
    ways = [
        {"name": "a", "ours": False, "median": 2.0, "missing": None},
        {"name": "b", "ours": False, "median": None, "missing": "not installed"},
        {"name": "c", "ours": True, "median": 1.0, "missing": None},
    ]
    assert fastest(ways, ours=False)["name"] == "a"
    assert fastest(ways, ours=True)["name"] == "c"


def test_the_table_says_ratio_bytes_and_what_is_missing(measured):
    gone = {"name": "FlashInfer", "ours": False, "nbytes": 1, "missing": "not installed"}
    gone |= dict.fromkeys(("median", "low", "high", "error"))
    row = measured["rows"][0]
    result = measured | {"rows": [row | {"ways": [*row["ways"], gone]}]}
    written = table(result | {"copy_bytes_per_second": 1e12, "triton": "3"})
    other, ours = (fastest(row["ways"], ours=mine)["median"] for mine in (False, True))
    assert f"| {other / ours:.2f}× |" in written
    assert "| 1 × 4 × 7 × 128 | 2,048 |" in written
    assert "FlashInfer: not installed." in written
    assert "a copy reads and writes 1,000 GB/s" in written


def test_another_run_s_speed_ups_stand_beside(measured):
    row = measured["rows"][0]
    slower = [
        way | {"median": way["median"] and way["median"] * (2 if way["ours"] else 1)}
        for way in row["ways"]
    ]
    written = table(measured, measured | {"device": "a GPU", "rows": [row | {"ways": slower}]})
    other, ours = (fastest(row["ways"], ours=mine)["median"] for mine in (False, True))
    assert f"| {other / ours:.2f}× | {other / ours / 2:.2f}× |" in written
    assert "Another run: a GPU; turbo_kv" in written
    unlike = table(measured, measured | {"rows": [row | {"tokens": 1}]})
    assert f"| {other / ours:.2f}× |  |" in unlike


def test_the_figure_draws_the_limit(measured):
    axes = speed_up(measured).axes[0]
    ways = measured["rows"][0]["ways"]
    limit = fastest(ways, ours=False)["nbytes"] / fastest(ways, ours=True)["nbytes"]
    heights = [line.get_ydata()[0] for line in axes.get_lines()]
    assert pytest.approx(limit) in heights
    assert "batch 1" in [text.get_text() for text in axes.figure.legends[0].get_texts()]


@pytest.mark.parametrize(
    ("device", "name"),
    [("NVIDIA H100 80GB HBM3", "h100"), ("NVIDIA H200", "h200"), ("cpu", "cpu")],
)
def test_a_result_is_named_after_its_device(device, name):
    assert result_name({"device": device}) == f"attention-{name}"


def test_scores_are_as_far_apart_as_the_bundled_model_s():
    """A kernel that finds all scores alike may be faster than it will be."""
    tokens = 2048
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()
    ids = AutoTokenizer.from_pretrained(FOLDER)(prose()).input_ids[:tokens]
    seen = capture(model, torch.tensor([ids]), queries=16)
    deviations = [
        _scores(layer.queries, layer.keys, layer.scaling).std(-1).flatten() for layer in seen.layers
    ]
    shape = Shape(1, 4, 7, 128, tokens)
    pair = attention_packed.quantizers("lloyd-max", 128, torch.device("cpu"))
    caches = attention_packed.PackedCaches(shape, pair, 1, torch.device("cpu"))
    timed = _scores(caches.queries.float(), caches.states(1).restore()[0], 128**-0.5).std(-1)
    ratio = timed.mean() / torch.cat(deviations).median()
    assert 0.8 < ratio < 1.25


def _scores(queries, keys, scaling):
    return queries @ keys.repeat_interleave(queries.shape[1] // keys.shape[1], 1).mT * scaling
