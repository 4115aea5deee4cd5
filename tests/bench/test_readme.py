"""The README's tables are those of the result files."""

import json
import re

import pytest

from turbo_kv.bench import readme
from turbo_kv.bench.live import TEXTS
from turbo_kv.bench.readme import README, markdown, render, results_table, table


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(readme, "TABLES", {})
    results_table("small")(lambda: "| a |\n")
    return readme.TABLES


def test_what_stands_between_markers_is_replaced(registered):
    text = "before\n<!-- results:small -->\nold\nlines\n<!-- /results -->\nafter\n"
    once = render(text)
    assert once == "before\n<!-- results:small -->\n| a |\n<!-- /results -->\nafter\n"
    assert render(once) == once


def test_two_tables_do_not_swallow_what_lies_between(registered):
    marked = "<!-- results:small -->\n<!-- /results -->\n"
    assert "\nkept\n" in render(f"{marked}kept\n{marked}")


def test_text_without_markers_stays(registered):
    assert render("# title\n<!-- a comment -->\n") == "# title\n<!-- a comment -->\n"


def test_an_unknown_table_is_named(registered):
    with pytest.raises(ValueError, match="'large'; choose one of small"):
        table("large")
    with pytest.raises(ValueError, match="'large'"):
        render("<!-- results:large -->\n<!-- /results -->")


def test_a_file_is_rewritten_in_place(registered, tmp_path):
    path = tmp_path / "README.md"
    path.write_text("é <!-- results:small -->\n<!-- /results -->\n", encoding="utf-8")
    readme.update(path)
    assert path.read_text(encoding="utf-8") == (
        "é <!-- results:small -->\n| a |\n<!-- /results -->\n"
    )


def test_markdown_has_a_rule_under_its_header():
    assert markdown(["x", "y"], [["1", "2"]]) == "| x | y |\n| --- | --: |\n| 1 | 2 |\n"


@pytest.mark.parametrize("name", re.findall(r"<!-- results:(\S+) -->", README.read_text("utf-8")))
def test_every_table_is_whole(name):
    rows = [line for line in table(name).splitlines() if line.startswith("|")]
    assert len(rows) > 2
    assert len({row.count("|") for row in rows}) == 1


def test_a_method_that_could_not_be_measured_keeps_its_row(monkeypatch, tmp_path):
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    figure = {"perplexity": 30.0, "stderr": 2.0}
    quality = {
        "reference": figure,
        "change": {"relative": 0.01, "stderr": 0.002},
        "kl": {"mean": 0.0257, "stderr": 0.001, "p99": 0.2},
        "top1": 0.9,
    }
    measured = {"method": "3 bits", "ours": True, "quality": quality, "bits_per_value": 3.27}
    missing = {"method": "HQQ", "ours": False, "quality": None, "missing": "install hqq"}
    for slug in TEXTS:
        result = {
            "rows": [measured, missing],
            "tokens": 2048,
            "text": {"name": slug},
            "model": {"name": "tiny", "device": "cpu", "dtype": "float32"},
            "stamp": dict.fromkeys(("turbo_kv", "commit", "torch", "transformers", "date"), "v"),
        }
        (tmp_path / f"live-{slug}.json").write_text(json.dumps(result))
    written = table("live")
    assert "| 3 bits | 3.27 | +1.0% ± 0.2% | 90.0% | 0.0257 | 0.20 | 0.0257 | 0.0257 |" in written
    assert "| _HQQ_ | not measured: install hqq |" in written


def test_a_gpu_that_was_measured_once_has_no_column_beside(monkeypatch, tmp_path):
    of_two_runs = table("attention")
    kept = readme.RESULTS / "attention-h200.json"
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    (tmp_path / "attention-h100.json").write_bytes(kept.read_bytes())
    assert "another run" in of_two_runs
    assert "another run" not in table("attention")


def test_the_readme_s_tables_are_up_to_date():
    text = README.read_text(encoding="utf-8")
    assert render(text) == text, "run turbo_kv.bench.readme.update()"
