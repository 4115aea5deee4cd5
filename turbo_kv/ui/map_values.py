"""The numbers and tokens behind the attention maps, for the pointer and for the table.

Weights travel as bf16, below a hundred-thousandth as zero, packed by zlib: about a byte a weight.
Tokens are whatever a visitor wrote, so they travel as base64 and reach the page as text.
"""

import json
import zlib
from base64 import b64encode

import numpy as np

from turbo_kv.figures.attention import visible
from turbo_kv.ui import numbers
from turbo_kv.ui.engine import Map
from turbo_kv.ui.language import say
from turbo_kv.ui.tables import table

SMALLEST = 1e-5
CHANGES = 5


def attributes(measured: Map) -> str:
    """What the page's script reads, as HTML attributes."""
    queries, keys = measured.exact.shape
    tokens = json.dumps([measured.query_tokens, measured.key_tokens])
    return (
        f'data-queries="{queries}" data-keys="{keys}" data-first-key="{measured.first_key}" '
        f'data-weights="{_text(zlib.compress(_bf16(measured), 1))}" '
        f'data-tokens="{_text(tokens.encode())}"'
    )


def _bf16(measured: Map) -> bytes:
    """Exact, then packed weights: all their upper bytes, then all their lower ones."""
    weights = np.stack([measured.exact, measured.packed]).astype(np.float32)
    bits = np.where(weights < SMALLEST, 0, weights).astype(np.float32).view(np.uint32)
    halves = (bits + 0x8000 >> 16).astype("<u2").view(np.uint8).reshape(-1, 2)
    return halves[:, 1].tobytes() + halves[:, 0].tobytes()


def _text(data: bytes) -> str:
    return b64encode(data).decode()


def changes(measured: Map) -> str:
    """The largest changes of the window as a table."""
    change = np.where(visible(measured.exact.shape), measured.packed - measured.exact, 0)
    order = np.abs(change).argsort(axis=None)[::-1][:CHANGES]
    first_query = measured.first_key + change.shape[1] - change.shape[0]
    rows = []
    for row, column in zip(*np.unravel_index(order, change.shape)):
        query, key = measured.query_tokens[row], measured.key_tokens[column]
        rows.append(
            (
                f"{first_query + row:,} {quoted(query)}",
                f"{measured.first_key + column:,} {quoted(key)}",
                numbers.weight(measured.exact[row, column]),
                numbers.weight(measured.packed[row, column]),
                numbers.signed(change[row, column]),
            )
        )
    heads = [say(f"maps.column.{name}") for name in ("query", "key", "exact", "packed", "change")]
    return table(say("maps.changes", count=CHANGES), heads, rows)


def quoted(token: str) -> str:
    """A token in quotes, with its blanks and line ends visible."""
    return f"“{token}”".replace("\n", "↵").replace(" ", "␣")
