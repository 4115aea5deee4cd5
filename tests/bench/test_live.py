"""Laws of the comparison of every way to store a cache."""

import json

import pytest

from turbo_kv.bench.live import METHODS, TEXTS, Method, ours, run
from turbo_kv.models.text import DEFAULT_SOURCE, SOURCES

CONTEXT = 320


def unavailable(_model):
    raise ImportError("You need\n  a package")


@pytest.fixture(scope="module")
def result():
    methods = [
        *(each for each in METHODS if each.name in ("bf16", "fp8, scale per vector")),
        ours("3 bits"),
        ours("off", centering="off"),
        ours("neither", quantize="neither"),
        Method("elsewhere", False, unavailable),
    ]
    return run("Prose", context=CONTEXT, methods=methods)


@pytest.fixture(scope="module")
def rows(result):
    return {row["method"]: row for row in result["rows"]}


def test_the_result_says_what_was_measured(result):
    assert result["tokens"] == CONTEXT
    assert result["text"]["name"] == "Prose"
    assert result["model"]["name"] == "tiny"
    assert result["stamp"]["torch"]
    assert json.loads(json.dumps(result))["rows"] == result["rows"]


def test_a_missing_package_is_a_row_that_says_so(rows):
    assert rows["elsewhere"]["missing"] == "You need a package"
    assert rows["elsewhere"]["quality"] is None
    assert all(row["missing"] is None for name, row in rows.items() if name != "elsewhere")


def test_bits_are_those_held(rows):
    assert rows["bf16"]["bits_per_value"] == 16
    assert rows["fp8, scale per vector"]["bits_per_value"] == 8.25
    assert rows["off"]["bits_per_value"] == 3.25
    assert 3.25 < rows["3 bits"]["bits_per_value"] < 3.5


def test_methods_differ_as_they_must(rows):
    kl = {name: row["quality"]["kl"]["mean"] for name, row in rows.items() if row["quality"]}
    assert abs(kl["neither"]) < 1e-5
    assert kl["bf16"] < kl["3 bits"] < kl["off"]


def test_every_method_has_a_name_of_its_own():
    assert len({method.name for method in METHODS}) == len(METHODS)


def test_every_built_in_text_has_a_result_file():
    assert set(TEXTS.values()) == set(SOURCES)
    assert next(iter(TEXTS.values())) == DEFAULT_SOURCE
