"""The coding benchmark on a CPU: every way timed, the compiled one compared first."""

import pytest
import torch

from turbo_kv.bench import quantize_cpu
from turbo_kv.bench.speed_report import quantize_table
from turbo_kv.models.progress import silent
from turbo_kv.quant.quantizer import TurboQuantizer

STAMP = {"torch": "2", "cores": 2, "date": "2026-01-01T00:00:00"}


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(quantize_cpu, "VECTORS", 64)
    monkeypatch.setattr(quantize_cpu, "REPEATS", 2)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def result(rows):
    return {"stamp": STAMP, "device": "cpu", "path": "eager PyTorch: no C compiler", "rows": rows}


@pytest.mark.usefixtures("small")
def test_every_way_is_timed_and_the_compiled_one_compared():
    rows = quantize_cpu.measure(1, silent)
    assert [row["way"] for row in rows][:2] == ["plain PyTorch", "TurboQuantizer, eager"]
    assert all(0 < row["slowest"] <= row["million_values_per_second"] for row in rows)
    if quantize_cpu.choose.why_not_coded(128, quantize_cpu.CONFIG) is None:
        assert rows[2]["way"] == "TurboQuantizer, compiled C"
        assert rows[2]["codes"] == 64 * 128
        assert "Of 8,192 codes of compiled C 0 differ" in quantize_table(result(rows))


@pytest.mark.usefixtures("small")
def test_without_a_compiler_the_table_says_why(monkeypatch):
    monkeypatch.setattr(quantize_cpu.choose, "why_not_coded", lambda *_: "no C compiler")
    rows = quantize_cpu.measure(1, silent)
    assert len(rows) == 2
    assert "Path: eager PyTorch: no C compiler." in quantize_table(result(rows))


@pytest.mark.usefixtures("small")
def test_codes_that_are_wrong_are_not_timed(monkeypatch):
    def mirrored(self, x):
        return TurboQuantizer.quantize(self, -x)

    monkeypatch.setattr(quantize_cpu.choose, "why_not_coded", lambda *_: None)
    wrong = type("Wrong", (TurboQuantizer,), {"quantize": mirrored})
    monkeypatch.setattr(quantize_cpu, "NativeQuantizer", wrong)
    with pytest.raises(ArithmeticError, match="a code differs"):
        quantize_cpu.measure(1, silent)
