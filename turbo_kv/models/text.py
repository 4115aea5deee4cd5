"""The text a model reads: three built-in sources or the user's own, cleaned and cut to length.

A text is never repeated to reach a length; a short one is measured at its own. Everything in it
is plain text: markup, templates and the names of special tokens have no power here. Knows nothing
of models beyond a tokenizer and a longest context.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

MINIMUM_TOKENS = 16
"""Fewer give no attention worth comparing: a first row always looks at itself alone."""

MAXIMUM_BYTES = 1_000_000
OWN_TEXT = "your text"

_PROSE = Path(__file__).parent / "texts" / "prose.txt"
_LIBRARY_MODULES = (
    *("argparse", "ast", "collections", "dataclasses", "difflib", "functools", "heapq"),
    *("logging", "statistics", "tarfile", "textwrap", "typing"),
)
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_UP_TO_LAST_WORD = re.compile(r".*\S(?= \S)", re.DOTALL)
_COUNTED_IN_FULL = 50_000  # characters; longer texts take a noticeable time to tokenize


@dataclass(frozen=True)
class PreparedText:
    """Token ids `(1, T)`, int64, and the facts of the text they begin.

    sha256, characters: of the whole cleaned text, before it is cut to tokens.
    notes: what was done to it, one sentence each.
    """

    tokens: torch.Tensor  # (1, T)
    name: str
    sha256: str
    characters: int
    notes: tuple[str, ...] = ()


def language_reference() -> str:
    """Python's language reference as `pydoc` carries it, topics in alphabetical order."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def library_source() -> str:
    """The source of a dozen long standard-library modules, read without importing them."""
    specs = (find_spec(name) for name in _LIBRARY_MODULES)
    sources = (spec.loader.get_source(spec.name) for spec in specs if spec and spec.loader)
    return "\n\n".join(source for source in sources if source)


def prose() -> str:
    """A long story written for this project."""
    return _PROSE.read_text(encoding="utf-8")


SOURCES: dict[str, Callable[[], str]] = {
    "Python language reference": language_reference,
    "Standard library source": library_source,
    "Prose": prose,
}
DEFAULT_SOURCE = "Python language reference"


@lru_cache(maxsize=len(SOURCES))
def read_source(name: str) -> str:
    """One of SOURCES by name. Raises ValueError naming the choices."""
    if name not in SOURCES:
        raise ValueError(f"text source is {name!r}; choose one of {', '.join(SOURCES)}")
    return SOURCES[name]()


def prepare(
    tokenizer: PreTrainedTokenizerBase,
    text: str | None,
    context: int,
    max_context: int,
    source: str = DEFAULT_SOURCE,
) -> PreparedText:
    """Clean `text` (or, when it is None, read `source`) and cut it to `context` tokens.

    Raises ValueError for a context outside MINIMUM_TOKENS to `max_context`, for an unknown source,
    and for a text that is empty, shorter than MINIMUM_TOKENS or longer than MAXIMUM_BYTES.
    """
    if not MINIMUM_TOKENS <= context <= max_context:
        raise ValueError(
            f"context is {context:,} tokens; choose from {MINIMUM_TOKENS} to {max_context:,}, "
            "the longest this model reads"
        )
    name, subject = (source, f"The text ({source})") if text is None else (OWN_TEXT, "Your text")
    used, removed = clean(read_source(source) if text is None else text)
    ids, complete = _first_tokens(tokenizer, used, context)
    if len(ids) < MINIMUM_TOKENS:
        raise ValueError(
            f"Your text has {_count(len(ids), 'token')}; a measurement needs at least "
            f"{MINIMUM_TOKENS}. Use a longer text."
        )
    notes = []
    if removed:
        notes.append(f"Removed {_count(removed, 'control character')} that no model reads as text.")
    if len(ids) > context:
        count = f"{len(ids):,}" if complete else f"more than {context:,}"
        notes.append(f"{subject} has {count} tokens; measured on the first {context:,}.")
    elif len(ids) < context:
        notes.append(f"{subject} has {len(ids):,} tokens; measured at {len(ids):,}.")
    return PreparedText(
        tokens=torch.tensor([ids[:context]], dtype=torch.int64),
        name=name,
        sha256=hashlib.sha256(used.encode()).hexdigest(),
        characters=len(used),
        notes=tuple(notes),
    )


def clean(text: str) -> tuple[str, int]:
    """The text without control characters and lone surrogates, and how many there were.

    Raises ValueError for a text that is empty or longer than MAXIMUM_BYTES.
    """
    size = len(text.encode(errors="surrogatepass"))
    if size > MAXIMUM_BYTES:
        raise ValueError(
            f"Your text is {size:,} bytes; at most {MAXIMUM_BYTES:,} (1 MB) are read. Shorten it."
        )
    used, removed = _FORBIDDEN.subn("", text)
    if not used.strip():
        raise ValueError(
            "Your text is empty. Paste some text, or use one of: " + ", ".join(SOURCES) + "."
        )
    return used, removed


def _first_tokens(
    tokenizer: PreTrainedTokenizerBase, text: str, context: int
) -> tuple[list[int], bool]:
    """Token ids from the start: all of them (True), or more than `context` of a long text (False).

    A long text is tokenized up to a single space between two words. The tokenizers of this family
    never let a token reach across one, so the ids so far are those of the whole text.
    """
    length = max(_COUNTED_IN_FULL, 8 * context)
    while length < len(text):
        if head := _UP_TO_LAST_WORD.match(text[:length]):
            ids = token_ids(tokenizer, head.group())
            if len(ids) > context:
                return ids, False
        length *= 4
    return token_ids(tokenizer, text), True


def token_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """All tokens of a text; the names of special tokens in it are plain text."""
    return tokenizer(text, split_special_tokens=True, verbose=False)["input_ids"]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
