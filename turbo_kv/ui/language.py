"""What the page says, in its visitor's language: sentences by key, from words/<language>.toml.

A sentence names its parts in braces, the same ones in every language. Knows no sentence's meaning.
What lower layers say, in English, is said again by `heard`. Exports stay English, and with them all
text that matplotlib draws: its font has no Chinese letters.
"""

import inspect
import re
import tomllib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from contextvars import ContextVar
from functools import cache, wraps
from pathlib import Path
from typing import Any

LANGUAGES = {"en": "English", "zh": "中文"}
"""By their codes, as they call themselves; the first is spoken where nothing else is asked for."""

WORDS = Path(__file__).parent / "words"
_spoken: ContextVar[str] = ContextVar("spoken", default="en")


def spoken() -> str:
    """The language at hand."""
    return _spoken.get()


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Within the block, everything is said in one of LANGUAGES."""
    token = _spoken.set(language)
    try:
        yield
    finally:
        _spoken.reset(token)


@cache
def sentences(language: str) -> dict[str, str]:
    """Every sentence of a language by its key, sections joined by dots."""
    return dict(_flat(tomllib.loads((WORDS / f"{language}.toml").read_text(encoding="utf-8"))))


def _flat(words: dict[str, Any], section: str = "") -> Iterator[tuple[str, str]]:
    for name, value in words.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{section}{name}.")
        else:
            yield section + name, value


def say(key: str, **parts: Any) -> str:
    """The sentence of a key with its parts put in. Raises KeyError for a key that is not there."""
    return sentences(spoken())[key].format_map(parts)


def unfilled(key: str) -> str:
    """The sentence of a key, its parts in braces still: for who puts them in later."""
    return sentences(spoken())[key]


def knows(key: str) -> bool:
    """Whether there is a sentence for a key."""
    return key in sentences(spoken())


def counted(key: str, count: int) -> str:
    """A count and its noun, by the key's forms "one" and "many": 1 token, 2,048 tokens."""
    return say(f"{key}.{'one' if count == 1 else 'many'}", count=f"{count:,}")


def heard(kind: str, text: str) -> str:
    """A lower layer's English in the language at hand; as it came when words/ has no such sentence.

    kind: the section below `heard`: "progress", "error", "note", ... A part may be another,
    or one of "name".
    """
    if spoken() == "en":
        return text
    for key, pattern in _patterns(kind):
        if found := pattern.fullmatch(text):
            return say(
                key,
                **{
                    name: heard("name", heard(kind, part))
                    for name, part in found.groupdict().items()
                },
            )
    return text


@cache
def _patterns(kind: str) -> tuple[tuple[str, re.Pattern], ...]:
    return tuple(
        (key, re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+?)", re.escape(sentence)), re.DOTALL))
        for key, sentence in sentences("en").items()
        if key.startswith(f"heard.{kind}.")
    )


def speaks(language: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, or generator of updates, with whatever it says in one language."""
    if not inspect.isgeneratorfunction(function):

        @wraps(function)
        def once(*arguments: Any) -> Any:
            with speaking(language):
                return function(*arguments)

        return once

    @wraps(function)
    def stream(*arguments: Any) -> Iterator[Any]:
        # Each step may run in another context, so each one says its language again.
        with closing(function(*arguments)) as steps:
            while True:
                with speaking(language):
                    try:
                        step = next(steps)
                    except StopIteration:
                        return
                yield step

    return stream
