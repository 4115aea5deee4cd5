"""A link's parameters as settings of the form, each one checked; what cannot be used is named.

A link never carries a text and never starts a run.
"""

from collections.abc import Mapping
from dataclasses import fields, replace

from turbo_kv.measure.report import Request
from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui import limits
from turbo_kv.ui.session import Session

READING = ("model", "context", "source")
PARAMETERS = (*READING, *(f.name for f in fields(QuantConfig)), "layer", "head")
LONGEST = 10
"""Digits of a number; what is longer is no setting."""


def read(
    query: Mapping[str, str], first: Session, host: limits.Limits
) -> tuple[Session, Request, list[str]]:
    """The session with the link's head, the request the form should show, and what was ignored.

    `first` is the session on screen. Its report changes only to one it already holds.
    """
    given = {name: query[name] for name in PARAMETERS if name in query}
    ignored: list[str] = []
    request = replace(first.request, config=_config(given, first.config, ignored))
    for name in READING:
        if name in given:
            try:
                request = limits.reading(request, name, _plain(given[name]), host)
            except ValueError:
                ignored.append(name)
    session = first
    if replace(request, config=first.config) == first.request and request.config in first.runs:
        session = first.show(first.runs[request.config])
    layer, head = (_plain(given.get(name, "0")) for name in ("layer", "head"))
    if ("layer" in given or "head" in given) and request.model == first.request.model:
        try:
            session = session.select(int(layer), int(head))
        except ValueError:
            ignored.append("layer and head")
    return session, request, ignored


def _config(given: Mapping[str, str], first: QuantConfig, ignored: list[str]) -> QuantConfig:
    config = first
    for choice in fields(QuantConfig):
        if choice.name in given:
            value = _plain(given[choice.name])
            if isinstance(choice.default, bool):
                value = {"on": True, "off": False}.get(value, value)
            try:
                config = replace(config, **{choice.name: value})
            except ValueError:
                ignored.append(choice.name)
    return config


def _plain(text: str) -> str | int:
    """A value as the form holds it: a whole number or a name."""
    is_number = text.isascii() and text.isdigit() and len(text) <= LONGEST
    return int(text) if is_number else text
