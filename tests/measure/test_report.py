"""A report adds up what its layers hold, and its JSON form tells the same."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo_kv.measure.report import LayerReport, ModelFacts, Report, StoredBytes, TextFacts
from turbo_kv.quant.config import QuantConfig

PER_KV_HEAD = ("key_cosine", "value_cosine", "key_relative_mse", "value_relative_mse")
PER_QUERY_HEAD = ("attention_kl", "logit_correlation", "top1", "output_relative_error")
stored_bytes = st.builds(StoredBytes, *(st.integers(0, 10**9) for _ in range(7)))


def layer(index: int, after: StoredBytes) -> LayerReport:
    generator = np.random.default_rng(index)
    return LayerReport(
        layer=index,
        before_bytes=4096,
        after=after,
        **{name: generator.random(2, dtype=np.float32) for name in PER_KV_HEAD},
        **{name: generator.random(6, dtype=np.float32) for name in PER_QUERY_HEAD},
    )


@pytest.fixture
def report() -> Report:
    return Report(
        model=ModelFacts("random", 3, 6, 2, 64, "cpu", "float32", 1000),
        text=TextFacts("your text", "ab" * 32, 900, ("Shortened.",)),
        tokens=8,
        config=QuantConfig(bits=2, qjl=True),
        queries=8,
        path="CPU, eager PyTorch: no CUDA device",
        layers=tuple(
            layer(index, StoredBytes(codes=700, scales=100 + index)) for index in range(3)
        ),
        timing={"measure": 0.5},
    )


@given(st.lists(stored_bytes, min_size=1, max_size=4))
def test_stored_bytes_add_part_by_part(parts):
    total = sum(parts, StoredBytes())
    assert total.total == sum(part.total for part in parts)
    assert total.signs == sum(part.signs for part in parts)


def test_totals_are_sums_over_layers(report):
    assert report.before_bytes == 3 * 4096
    assert report.after == StoredBytes(codes=2100, scales=303)
    assert report.ratio == 3 * 4096 / 2403
    assert report.bits_per_value == pytest.approx(16 * 2403 / (3 * 4096))


def test_a_report_is_complete_when_every_layer_is_in(report):
    assert report.complete
    assert not replace(report, layers=report.layers[:2]).complete


def test_json_carries_the_contract(report):
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert set(data["memory"]) >= {"before_bytes", "after_bytes", "ratio", "bits_per_value"}
    for side in ("keys", "values"):
        assert set(data[side]["cosine"]) == {"mean", "median", "min", "per_layer_head"}
        assert "relative_mse" in data[side]
    attention = data["attention"]
    assert set(attention["kl"]) == {"mean", "max", "per_layer_head"}
    assert {"mean", "min"} <= set(attention["logit_correlation"])
    assert {"queries", "output_relative_error", "top1"} <= set(attention)
    grid = report.grid("key_cosine")
    assert np.array(data["keys"]["cosine"]["per_layer_head"]).shape == (3, 2)
    assert data["keys"]["cosine"]["median"] == pytest.approx(np.median(grid))
    assert data["keys"]["cosine"]["min"] == pytest.approx(grid.min())
    assert attention["kl"]["max"] == pytest.approx(report.grid("attention_kl").max())


def test_json_reads_back(report):
    again = Report.from_dict(json.loads(json.dumps(report.to_dict())))
    assert again.to_dict() == report.to_dict()
    assert (again.config, again.text, again.after) == (report.config, report.text, report.after)
    with pytest.raises(KeyError, match="attention"):
        Report.from_dict({k: v for k, v in report.to_dict().items() if k != "attention"})
