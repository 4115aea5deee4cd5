"""Laws of the choice of states: the numbers are those of the codebooks they stand for."""

import json

import pytest

from turbo_kv.bench import trellis, trellis_levels, trellis_report
from turbo_kv.quant.trellis import STATE_BITS


@pytest.fixture(scope="module")
def result():
    patch = pytest.MonkeyPatch()
    for module, name, value in (
        (trellis, "STATES", (6, 8)),
        (trellis, "DIRECTIONS", 128),
        (trellis, "REPEATS", 1),
        (trellis, "SEEDS", (0,)),
        (trellis, "STEPS", 3),
    ):
        patch.setattr(module, name, value)
    yield trellis.run(context=320)
    patch.undo()


def test_every_size_is_there_and_lies_between_shannon_and_lloyd_max(result):
    rows = {(row["codebook"], row["bits"]): row for row in result["gaussian"]}
    assert len(rows) == 3 * 5
    for bits in (2, 3, 4):
        plain = rows["lloyd-max", bits]
        large = rows["trellis, 256 states, 3 tries", bits]
        assert large["bound"] < large["error"]
        assert min(large["encoded_per_second"], plain["encoded_per_second"]) > 0
        assert large["error"] < rows["trellis, 256 states, 1 tries", bits]["error"]
    assert rows["trellis, 256 states, 3 tries", 3]["error"] < 0.95 * rows["lloyd-max", 3]["error"]


def test_the_live_cache_is_measured_beside_lloyd_max(result):
    first, *others = result["live"]
    assert (first["codebook"], first["ratio"]) == ("lloyd-max", 1)
    assert {row["codebook"] for row in others} == {
        row["codebook"] for row in result["gaussian"] if row["bits"] == 3 and row["states"]
    }
    assert all(row["ratio"] < 1.5 for row in others)
    json.dumps(result, allow_nan=False)


def test_the_table_has_a_line_for_each_codebook_and_one_for_shannon(result):
    lines = trellis_report.table(result).splitlines()
    assert len([line for line in lines if line.startswith("|")]) == 2 + 5 + 1
    assert "| lloyd-max |" in lines[2]
    assert "| 1.00 |" in lines[2]
    assert "0.0156" in lines[7]


def test_levels_are_written_as_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(trellis_levels, "LEVELS_FILE", tmp_path / "levels.f16")
    monkeypatch.setattr(trellis_levels, "STEPS", 1)
    monkeypatch.setattr(trellis_levels, "VECTORS", 8)
    (path,) = trellis_levels.write_levels()
    assert path.stat().st_size == 4 * 2**STATE_BITS * 2
