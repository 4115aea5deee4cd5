"""What happens on Run, on a switch, on a selected cell, on Stop and on an upload.

Each action is a plain generator of updates by component name, so that it runs without a page.
A result stays until a complete one replaces it: an error or Stop shows the previous run again.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from time import perf_counter
from typing import Any

import gradio as gr

from turbo_kv.measure.report import Report, Request
from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui import engine, form, limits, overview, run_tab, status, wording
from turbo_kv.ui.following import following
from turbo_kv.ui.language import counted, heard, say
from turbo_kv.ui.precomputed import Precomputed
from turbo_kv.ui.session import Pin, Session, first

Updates = dict[str, Any]

PAUSE = 0.5
"""Seconds between two pictures of a growing result; a picture costs the measuring its time."""

FAILURES = (ValueError, OSError, RuntimeError, MemoryError)
"""What a run can meet: bad input, no network, no memory. Anything else is a bug."""


class Actions:
    """The actions of one server on a visitor's session, which is None before the first one."""

    def __init__(self, host: limits.Limits, stored: Precomputed) -> None:
        self._host = host
        self._stored = stored
        self.captures = engine.Captures(host.captures, host.capture_bytes)

    def run(self, session: Session | None, *values: Any) -> Iterator[Updates]:
        """Read the form's text with its model, measure it as asked and, to compare, the twin."""
        session = session or self._stored.session
        try:
            request = limits.check(dict(zip(form.FIELDS, values)), self._host)
        except limits.FieldError as error:
            yield _refused(error.field, error)
            return
        yield form.locked(True) | form.messages({}) | _busy(say("status.starting"), 0)
        start = perf_counter()
        try:
            prepared = yield from self._prepare(request)
            report = yield from self._measure(prepared, request.config, session.selected)
            twin = yield from self._measure(prepared, _twin(request.config), None)
            after = first(request, [report, twin], session.number + 1, precomputed=False)
            after = replace(after, pinned=session.pinned)
            yield _drawn(after) | _busy(say("status.drawing"), 1)
            maps = self._maps(after, prepared)
        except FAILURES as error:
            yield _failed(session, error)
            return
        seconds = perf_counter() - start
        done = say(
            "status.run",
            number=after.number,
            tokens=counted("tokens", report.tokens),
            seconds=f"{seconds:.1f}",
        )
        notes = say("list.sentences").join(heard("note", note) for note in report.text.notes)
        yield (
            maps
            | {"session": after, "status": status.html(status.DONE, done)}
            | form.messages({}, {"text": notes})
            | form.locked(False)
        )

    def switch(self, session: Session | None, *values: Any) -> Iterator[Updates]:
        """Store the same reading another way; the forward pass is not repeated."""
        session = session or self._stored.session
        try:
            config = limits.config(dict(zip(form.SWITCHES, values)))
        except limits.FieldError as error:
            yield _refused(error.field, error)
            return
        if config == session.config:
            return
        start = perf_counter()
        try:
            if config not in session.runs:
                prepared = yield from self._prepare(session.request)
                report = yield from self._measure(prepared, config, session.selected)
            else:
                report = session.runs[config]
            after = replace(session.show(report), number=session.number + 1)
            maps = yield from self._maps_or_prepare(after)
        except FAILURES as error:
            yield _failed(session, error)
            return
        change = wording.change(session.config, config)
        seconds = perf_counter() - start
        done = say("status.switch", number=after.number, change=change, seconds=f"{seconds:.1f}")
        # All at once: what is drawn twice is sent and shown twice.
        yield (
            _drawn(after)
            | maps
            | form.messages({})
            | {"session": after, "status": status.html(status.DONE, done)}
        )

    def select_kv(self, session: Session | None, event: gr.SelectData) -> Iterator[Updates]:
        """Open the worst query head that reads the chosen KV head."""
        yield from self._select(session, *_index(event), of_queries=False)

    def select_query(self, session: Session | None, event: gr.SelectData) -> Iterator[Updates]:
        """Open the chosen query head."""
        yield from self._select(session, *_index(event), of_queries=True)

    def _select(
        self, session: Session | None, layer: int, head: int, of_queries: bool
    ) -> Iterator[Updates]:
        session = session or self._stored.session
        after = session.select(layer, head) if of_queries else session.select_kv(layer, head)
        yield run_tab.beside(after) | {"session": after}
        try:
            maps = yield from self._maps_or_prepare(after)
        except FAILURES as error:
            yield _failed(after, error)
            return
        said = say("status.selected", layer=after.selected[0], head=after.selected[1])
        yield maps | {"status": status.html(status.READY, said)}

    def pin(self, session: Session | None) -> Updates:
        """Keep the result shown on screen, beside the ones to come."""
        session = session or self._stored.session
        after = replace(session, pinned=Pin(session.shown, session.number))
        return run_tab.beside(after) | {"session": after}

    def unpin(self, session: Session | None) -> Updates:
        """Show one result again."""
        after = replace(session or self._stored.session, pinned=None)
        return run_tab.beside(after) | {"session": after}

    def stop(self, session: Session | None) -> Updates:
        """Say so and put the previous run back; the run itself ends at its next step."""
        return _standing(session or self._stored.session) | {
            "status": status.html(status.READY, say("status.stopped"))
        }

    def upload(self, path: str) -> Updates:
        """An uploaded file becomes the visitor's own text."""
        try:
            text = limits.upload(path, self._host)
        except limits.FieldError as error:
            return _refused(error.field, error)
        return form.messages({}) | {
            "source": limits.OWN_TEXT,
            "text": gr.update(value=text, visible=True),
        }

    def _prepare(self, request: Request) -> Generator[Updates, None, Any]:
        kept = self.captures.find(request)
        if kept is not None:
            return kept
        steps = following(lambda progress: self.captures.prepare(request, progress))
        return (yield from shown(steps, _busy))

    def _measure(
        self, prepared: Any, config: QuantConfig, selected: tuple[int, int] | None
    ) -> Generator[Updates, None, Report]:
        """Yield the status, and for a selection the growing grids, every PAUSE."""
        told = perf_counter()
        for report in self.captures.measure(prepared, config):
            if perf_counter() - told < PAUSE:
                continue
            told = perf_counter()
            done, layers = len(report.layers), report.model.layers
            setting = wording.setting(config, ["bits", "centering"])
            said = say("status.layer", done=done, layers=layers, setting=setting)
            drawn = run_tab.partial(report, selected) if selected else {}
            yield drawn | _busy(said, done / layers)
        return report

    def _maps_or_prepare(self, session: Session) -> Generator[Updates, None, Updates]:
        stored = self._stored.maps.get((session.config, *session.selected))
        if session.precomputed and stored is not None:
            return run_tab.maps(session, stored)
        prepared = yield from self._prepare(session.request)
        return self._maps(session, prepared)

    def _maps(self, session: Session, prepared: Any) -> Updates:
        layer, head = session.selected
        return run_tab.maps(session, engine.attention_map(prepared, session.config, layer, head))


def _twin(config: QuantConfig) -> QuantConfig:
    """What a run is compared with: the same without centring, or with it."""
    return replace(config, centering="mean" if config.centering == "off" else "off")


def shown(steps: Generator, busy: Callable[[str, float], Updates]) -> Generator[Updates, None, Any]:
    """The same generator with its steps as status lines, which `busy` writes."""
    while True:
        try:
            fraction, text = next(steps)
        except StopIteration as end:
            return end.value
        yield busy(heard("progress", text), fraction)


def _index(event: gr.SelectData) -> tuple[int, int]:
    layer, head = event.index
    return int(layer), int(head)


def _drawn(session: Session) -> Updates:
    return overview.render(session) | run_tab.render(session)


def _standing(session: Session) -> Updates:
    """The last complete result again, marked, and the form back within reach."""
    return (
        overview.render(session, previous=True)
        | run_tab.render(session)
        | form.locked(False)
        | form.values(session.config)
    )


def _busy(text: str, fraction: float) -> Updates:
    return {"status": status.html(status.BUSY, text, fraction)}


def _refused(field: str, error: Exception) -> Updates:
    said = say("status.refused")
    return form.messages({field: str(error)}) | {"status": status.html(status.FAILED, said)}


def _failed(session: Session, error: Exception) -> Updates:
    said = heard("error", str(error))
    return (
        _standing(session)
        | form.messages({form.field_of(error): said})
        | {"status": status.html(status.FAILED, say("status.failed", error=said))}
    )
