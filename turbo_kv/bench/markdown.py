"""A table of text cells, as Markdown and as HTML. Knows nothing of what is in it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Table:
    """A header, lines of as many cells, and a sentence or two under them.

    left: how many columns, from the first on, are text and stand to the left.
    """

    title: str
    header: Sequence[str]
    lines: Sequence[Sequence[str]]
    note: str = ""
    left: int = 1


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table: the first columns to the left, the others to the right."""
    rows = [header, [*["---"] * left, *["--:"] * (len(header) - left)], *lines]
    return "".join(f"| {' | '.join(map(_plain, cells))} |\n" for cells in rows)


def html(table: Table) -> str:
    """A table with its title as caption and its note below."""
    head = "".join(f'<th scope="col">{_cell(name)}</th>' for name in table.header)
    body = "".join(
        f'<tr><th scope="row">{_cell(first)}</th>'
        + "".join(f"<td>{_cell(cell)}</td>" for cell in others)
        + "</tr>\n"
        for first, *others in table.lines
    )
    note = f"<p>{escape(table.note)}</p>\n" if table.note else ""
    return (
        f'<h2>{escape(table.title)}</h2>\n<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"\n<tbody>\n{body}</tbody></table></div>\n{note}"
    )


def _plain(text: str) -> str:
    """A cell that neither ends early nor turns into markup."""
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;")


def _cell(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
