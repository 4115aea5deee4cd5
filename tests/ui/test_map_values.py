"""What the pointer reads is what was measured, and a visitor's tokens stay out of the markup."""

import json
import zlib
from base64 import b64decode

import conftest
import numpy as np
import pytest

from turbo_kv.ui import head_maps, map_values, precomputed
from turbo_kv.ui.engine import Map

STORED = precomputed.read()


def attribute(html: str, name: str) -> str:
    return html.split(f'data-{name}="')[1].split('"', maxsplit=1)[0]


def read(html: str) -> np.ndarray:
    """The weights as the page's script reads them: (2, queries, keys)."""
    data = np.frombuffer(zlib.decompress(b64decode(attribute(html, "weights"))), np.uint8)
    upper, lower = data.reshape(2, -1).astype(np.uint32)
    shape = 2, int(attribute(html, "queries")), int(attribute(html, "keys"))
    return (upper << 24 | lower << 16).view(np.float32).reshape(shape)


@pytest.mark.parametrize("measured", [conftest.a_map(), *STORED.maps.values()])
def test_weights_arrive_with_the_digits_that_are_shown(measured):
    sent = read(map_values.attributes(measured))
    for mine, true in zip(sent, (measured.exact, measured.packed)):
        np.testing.assert_allclose(mine, true, rtol=0.005, atol=map_values.SMALLEST)


@pytest.mark.parametrize("measured", STORED.maps.values(), ids=lambda _: "stored")
def test_the_maps_of_a_head_cost_a_bounded_number_of_bytes(measured):
    assert len(head_maps.html(measured, 0, 0, 3.27)) < 220_000


def test_even_noise_costs_a_bounded_number_of_bytes():
    noise = np.random.default_rng(0).random((256, 256)) / 128
    tokens = ("token",) * 256
    measured = Map(noise, noise[::-1], 0, 1.0, 0.5, 0.5, tokens, tokens)
    assert len(head_maps.html(measured, 0, 0, 3.27)) < 550_000


def test_tokens_are_text_wherever_they_appear():
    hostile = "<img src=x onerror=alert(1)>${1}{{2}}"
    measured = conftest.a_map()._replace(query_tokens=(hostile,) * 8)
    html = head_maps.html(measured, 0, 0, 3.27)
    assert "<img src=x" not in html
    assert json.loads(b64decode(attribute(html, "tokens")))[0][0] == hostile


def test_the_table_lists_the_largest_changes_first():
    measured = conftest.a_map()
    change = np.abs(measured.packed - measured.exact)
    html = map_values.changes(measured)
    assert html.count("<tr>") == 1 + map_values.CHANGES
    row, column = np.unravel_index(change.argmax(), change.shape)
    first = html.split("<tbody>")[1].split("</tr>")[0]
    assert f"{2040 + row:,} “␣word{row}”" in first
    assert f"{2040 + column:,} “␣word{column}”" in first
