"""Where memory is short, what is kept for switches goes first, and the work is tried once more."""

import weakref
from types import SimpleNamespace

import pytest

from turbo_kv.measure.report import Request
from turbo_kv.models.shortage import ShortOfMemoryError
from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui import engine

MB = 1_000_000


class Prepared(SimpleNamespace):
    """A stand-in for a capture of 30 MB; its weak reference tells when it is gone."""


@pytest.fixture
def captures(monkeypatch) -> engine.Captures:
    """Three readings kept. Afterwards a reading needs the room of all of them."""
    kept = engine.Captures(limit=9)
    new = lambda *_: Prepared(capture=SimpleNamespace(nbytes=30 * MB))  # noqa: E731
    with monkeypatch.context() as roomy:
        roomy.setattr(engine, "_read", new)
        for context in (16, 17, 18):
            kept.prepare(Request(context=context), lambda *_: None)
    alive = [weakref.ref(each) for each in kept._kept.values()]

    def read(request, progress):
        if held := sum(each() is not None for each in alive):
            raise ShortOfMemoryError(f"{held} others hold memory")
        return new()

    monkeypatch.setattr(engine, "_read", read)
    return kept


def test_a_reading_that_does_not_fit_takes_the_room_of_those_kept(captures):
    told = []
    captures.prepare(Request(context=99), lambda _, text: told.append(text))
    assert told == ["Memory was short: let go of 3 kept readings (90 MB)"]
    assert captures.find(Request(context=99)) is not None
    assert captures.find(Request(context=18)) is None


def test_what_still_does_not_fit_is_refused_with_what_was_let_go(captures, monkeypatch):
    def read(request, progress):
        raise ShortOfMemoryError("9 GB do not fit")

    monkeypatch.setattr(engine, "_read", read)
    said = r"^9 GB do not fit \(after letting go of 3 kept readings \(90 MB\)\)$"
    with pytest.raises(ShortOfMemoryError, match=said):
        captures.prepare(Request(context=99), lambda *_: None)
    with pytest.raises(ShortOfMemoryError, match=r"^9 GB do not fit$"):
        captures.prepare(Request(context=99), lambda *_: None)


def test_other_mistakes_cost_nobody_a_reading(captures, monkeypatch):
    def read(request, progress):
        raise ValueError("no such model")

    monkeypatch.setattr(engine, "_read", read)
    with pytest.raises(ValueError, match="no such model"):
        captures.prepare(Request(context=99), lambda *_: None)
    assert captures.find(Request(context=18)) is not None


def test_a_generation_takes_the_room_too(captures, monkeypatch):
    monkeypatch.setattr(engine, "first_step", engine._read)
    captures.first_step("a prompt", lambda *_: None)
    assert captures.find(Request(context=18)) is None


def test_measuring_keeps_its_own_reading_and_starts_again(captures, monkeypatch):
    own = captures.find(Request(context=17))

    def measure(prepared, config):
        assert prepared is own
        yield "layer 0"
        if captures.find(Request(context=16)):
            raise ShortOfMemoryError("the others hold memory")
        yield "layer 1"

    monkeypatch.setattr(engine, "measure", measure)
    assert list(captures.measure(own, QuantConfig())) == ["layer 0", "layer 0", "layer 1"]
    assert captures.find(Request(context=17)) is own
    assert captures.find(Request(context=18)) is None
