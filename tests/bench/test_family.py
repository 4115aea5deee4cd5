"""Laws of the family table: rows survive an early end, other machines, and what cannot be had."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from turbo_kv.bench import family, family_row
from turbo_kv.bench.evaluation_text import EvaluationText
from turbo_kv.bench.family import read, run
from turbo_kv.bench.family_row import Job, measure_row
from turbo_kv.measure.cosines import DEFINITIONS
from turbo_kv.measure.planner import packed_bytes
from turbo_kv.models import device
from turbo_kv.models.catalog import TINY
from turbo_kv.models.progress import silent
from turbo_kv.models.text import prose
from turbo_kv.quant.config import QuantConfig

TEXT = EvaluationText("Prose", prose(), 2)
FIGURES = {"dtype": "float32", "memory": {}, "seconds": {}, "peak_bytes": 1, "windows": 2}


@pytest.fixture
def measured(monkeypatch):
    """The jobs that were measured, in order; nothing really is."""
    jobs = []

    def measure(_work, job, progress):
        jobs.append((job.model, job.context))
        progress(0.5, "half")
        return dict(FIGURES)

    monkeypatch.setattr(family, "alone", measure)
    return jobs


@pytest.fixture
def measure(tmp_path):
    return partial(run, tmp_path, TEXT, models=["tiny"], contexts=[64, 128], device="cpu")


def rows(path):
    return json.loads(path.read_text(encoding="utf-8"))["rows"]


def test_an_early_end_keeps_what_is_finished_and_the_next_run_goes_on(
    measured, measure, monkeypatch, tmp_path
):
    whole = family.alone

    def interrupted(work, job, progress):
        if job.context == 128:
            raise KeyboardInterrupt
        return whole(work, job, progress)

    monkeypatch.setattr(family, "alone", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure()
    (kept,) = rows(next(tmp_path.glob("family/*.json")))
    monkeypatch.setattr(family, "alone", whole)
    path = measure()
    assert measured == [("tiny", 64), ("tiny", 128)]
    assert rows(path)[0] == kept
    assert [row["context"] for row in rows(path)] == [64, 128]
    assert not list(tmp_path.glob("family/*.part"))


def test_other_code_takes_the_place_of_a_row_and_another_text_stands_beside_it(
    measured, monkeypatch, tmp_path
):
    one = partial(run, tmp_path, models=["tiny"], contexts=[64], device="cpu")
    for text in (TEXT, replace(TEXT, windows=3), replace(TEXT, text="another")):
        one(text)
    monkeypatch.setattr(family, "stamp", lambda: {"turbo_kv": "0.1.0", "commit": "other"})
    path = one(TEXT)
    assert len(measured) == 4
    assert [row["text"]["windows"] for row in rows(path)] == [3, 2, 2]
    assert [row["stamp"]["commit"] == "other" for row in rows(path)] == [False, False, True]


def test_a_row_that_lacks_a_later_choice_is_the_row_of_its_default(measured, measure):
    path = measure()
    older = json.loads(path.read_text(encoding="utf-8"))
    for row in older["rows"]:
        del row["config"]["codebook"]
    path.write_text(json.dumps(older), encoding="utf-8")
    assert len(rows(measure())) == len(measured) == 2


def test_a_result_file_that_changes_meanwhile_is_no_other_code(measured, measure, monkeypatch):
    for commit in ("abc", "abc+"):
        monkeypatch.setattr(
            family, "stamp", lambda commit=commit: {"turbo_kv": "0.1.0", "commit": commit}
        )
        measure()
    assert len(measured) == 2


def test_what_cannot_be_had_is_a_row_that_says_why_and_is_tried_again(
    measured, measure, monkeypatch
):
    works = family.alone

    def refuse(_work, _job, progress):
        raise ValueError(f"not in {Path.home()}/cache")

    monkeypatch.setattr(family, "alone", refuse)
    found = rows(measure())
    assert [row["missing"] for row in found] == ["not in ~/cache"] * 2
    assert all(row["memory"] is None and row["quality"] is None for row in found)
    monkeypatch.setattr(family, "alone", works)
    assert [row["missing"] for row in rows(measure())] == [None, None]


def test_every_machine_has_a_file_of_its_own(measured, measure, tmp_path):
    measure(machine="NVIDIA H200 (141 GB)")
    other = (tmp_path / "family" / "nvidia-h200-141-gb.json").read_text(encoding="utf-8")
    measure()
    assert (tmp_path / "family" / "nvidia-h200-141-gb.json").read_text("utf-8") == other
    assert len({row["machine"] for row in read(tmp_path)}) == 2
    assert len(read(tmp_path)) == 4


def test_nothing_is_measured_for_a_name_that_nobody_knows(measured, measure):
    for wrong in ("Qwen2.5-9B", "shape:Qwen2.5-9B", "shape:tiny"):
        with pytest.raises(ValueError, match=r"not known|no known shape"):
            measure(models=["tiny", wrong])
    assert measured == []


def test_progress_grows_and_says_what_is_measured(measured, measure):
    heard = []
    measure(progress=lambda fraction, said: heard.append((fraction, said)))
    assert heard == [(0.25, "tiny, 64 tokens: half"), (0.75, "tiny, 128 tokens: half")]


@pytest.fixture(scope="module")
def trained():
    return measure_row(Job("tiny", 256, "cpu", TEXT, QuantConfig()), silent)


def test_a_trained_row_measures_everything(trained):
    assert trained["memory"]["before_bytes"] == 256 * TINY.kv_bytes_per_token()
    assert trained["memory"]["after_bytes"] == packed_bytes(TINY, 256, 1, QuantConfig()).total
    assert set(trained["cosine"]["keys"]) == set(trained["cosine"]["values"]) == set(DEFINITIONS)
    assert trained["windows"] == 2
    assert trained["quality"]["predictions"] == 2 * 255
    assert 0 < trained["attention"]["kl_mean"] < trained["attention"]["kl_max"]
    assert set(trained["seconds"]) == {"capture", "quantize", "exact", "packed"}
    assert min(trained["seconds"].values()) > 0
    assert trained == json.loads(json.dumps(trained))


def test_the_claim_holds_for_the_whole_cache_and_not_for_its_content(trained):
    keys = trained["cosine"]["keys"]
    assert keys["whole cache"] > 0.999 > keys["per vector"] > keys["content, per vector"]


def test_a_row_of_random_weights_has_bytes_and_seconds_and_no_quality():
    job = Job("shape:Qwen2.5-0.5B", 64, "cpu", TEXT, QuantConfig())
    assert job.identity["weights"] == "random"
    assert job.identity["text"] is None
    figures = measure_row(job, silent)
    assert figures["memory"]["ratio"] > 1
    assert figures["cosine"] is figures["attention"] is figures["quality"] is None


def test_a_model_that_does_not_fit_is_refused_before_it_is_downloaded(monkeypatch):
    monkeypatch.setattr(device, "free_memory", lambda _device: 2**30)
    monkeypatch.setattr(family_row, "load", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(ValueError, match="do not fit"):
        measure_row(Job("Qwen2.5-3B", 64, "cpu", TEXT, QuantConfig()), silent)


def test_more_tokens_than_the_model_reads_are_refused():
    with pytest.raises(ValueError, match="reads at most 8,192"):
        measure_row(Job("tiny", 8193, "cpu", TEXT, QuantConfig()), silent)
