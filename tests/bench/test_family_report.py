"""Laws of the family report: it shows every row, asks nobody for anything, and is up to date."""

import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from family_rows import row

from turbo_kv.bench.family import read
from turbo_kv.bench.family_report import as_html, as_markdown, claims_json, tables, write_reports
from turbo_kv.bench.keep import RESULTS

ROWS = [
    row("tiny"),
    row("tiny", 8192),
    row("Qwen2.5-7B", 8192, "random", "cuda"),
    row("Qwen2.5-3B", missing="it is <b>far</b> | away"),
]
FIGURE = re.compile(r"<svg.*?</svg>", re.DOTALL)


class Addresses(HTMLParser):
    """Collects what a page would fetch, and every tag."""

    def __init__(self, page):
        super().__init__()
        self.fetched, self.tags = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.fetched += [
            value
            for name, value in attributes
            if name in ("src", "href", "xlink:href") and not value.startswith("#")
        ]


def test_every_row_is_in_the_report():
    written = as_markdown(ROWS)
    assert written.count("| 448.0 → 88.00 |") == 3
    assert "| Qwen2.5-7B | random | 8,192 |" in written
    assert "it is &lt;b>far&lt;/b> \\| away" in written


def test_no_table_is_broken_by_what_is_in_it():
    lines = as_markdown(ROWS).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    headers = [line for line, below in pairwise(rows) if below.startswith("| ---")]
    assert len(headers) == len(tables(ROWS)) == 5
    width = 0
    for line in rows:
        bars = len(re.findall(r"(?<!\\)\|", line))
        width = bars if line in headers else width
        assert bars == width, line


def test_the_page_holds_everything_and_fetches_nothing():
    page = Addresses(as_html(ROWS))
    assert page.fetched == []
    assert page.tags.count("svg") == 3
    assert page.tags.count("table") == 5
    assert "script" not in page.tags
    assert "b" not in page.tags


def test_without_rows_there_are_the_claims_and_no_figure():
    page = Addresses(as_html([]))
    assert page.tags.count("table") == 1
    assert "svg" not in page.tags


def test_the_same_rows_make_the_same_page():
    assert as_html(ROWS) == as_html(ROWS)


@pytest.mark.parametrize("name", ["family.md", "family.html", "claims.json"])
def test_what_is_kept_is_what_the_rows_say(name):
    rows = read(RESULTS)
    kept = (RESULTS / name).read_text(encoding="utf-8")
    if name == "claims.json":
        assert json.loads(kept) == claims_json(rows)
        return
    fresh = as_markdown(rows) if name == "family.md" else as_html(rows)
    # Figures differ by version of what draws them.
    assert FIGURE.sub("", kept) == FIGURE.sub("", fresh), "run python -m turbo_kv bench readme"


def test_reports_are_written_beside_the_rows(tmp_path):
    paths = write_reports(tmp_path)
    assert {path.name for path in paths} == {"family.md", "family.html", "claims.json"}
    assert all(path.parent == tmp_path for path in paths)
