"""The numbers behind a chart, folded away under the words that unfold them."""

from collections.abc import Iterable, Sequence

from turbo_kv.figures import chart
from turbo_kv.ui.language import say


def table(name: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table below a chart; the first column names the row."""
    return chart.table(name, heads, rows, say("table.show"))
