"""What happens in the tab Learn: an answer, a turned control, another step, a link, a new run.

Plain generators of updates by component name. The numbers of the first head are at hand before
anything is run; any other head is measured on the visitor's capture, once.
"""

from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import Any

import gradio as gr

from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui import engine, learn_tab, walk
from turbo_kv.ui.actions import FAILURES
from turbo_kv.ui.following import following
from turbo_kv.ui.language import heard, say
from turbo_kv.ui.lessons.lesson import Scene
from turbo_kv.ui.precomputed import Precomputed
from turbo_kv.ui.session import Session
from turbo_kv.ui.walk import Walk

Updates = dict[str, Any]


class LearnActions:
    """The lessons' actions on a visitor's session and walk."""

    def __init__(self, stored: Precomputed, captures: engine.Captures) -> None:
        self._stored = stored
        self._captures = captures

    def answer(self, session: Session | None, at: Walk, choice: int | None) -> Iterator[Updates]:
        """Show what was asked about; no choice is one made while the choices changed."""
        yield from self._show(session, at if choice is None else at.answer(choice))

    def turn(self, session: Session | None, at: Walk, setting: str) -> Iterator[Updates]:
        """Show the figure under another setting."""
        yield from self._show(session, at.set(setting))

    def pick(self, session: Session | None, at: Walk, event: gr.SelectData) -> Iterator[Updates]:
        """Open a step from the row of steps."""
        yield from self._show(session, at.go(int(event.index)))

    def back(self, session: Session | None, at: Walk) -> Iterator[Updates]:
        """Open the step before."""
        yield from self._show(session, at.go(at.step - 1))

    def forward(self, session: Session | None, at: Walk) -> Iterator[Updates]:
        """Open the step after."""
        yield from self._show(session, at.go(at.step + 1))

    def follow(self, session: Session | None, at: Walk) -> Any:
        """What is due after a run, a switch or another selection, when the tab is in view."""
        session = session or self._stored.session
        return at.due(session) if at.open else gr.skip()

    def enter(self, session: Session | None, at: Walk, event: gr.SelectData) -> Iterator[Updates]:
        """Note which tab is in view, and draw the lesson when it is this one and shows another."""
        after = replace(at, open=event.value == say("tab.learn"))
        if after.open and at.drawn != at.due(session or self._stored.session):
            yield from self._show(session, after)
        else:
            yield {"walk": after}

    def arrive(self, request: gr.Request) -> tuple[Any, Any, Any]:
        """What is due when a link names a lesson, where it leads, the tab; else nothing changes."""
        step = walk.linked_step(request.query_params.get("lesson"))
        if step is None:
            return gr.skip(), gr.skip(), gr.skip()
        return (step,), Walk(step=step, open=True), gr.Tabs(selected="learn")

    def draw(self, session: Session | None, at: Walk, due: tuple[int, ...]) -> Iterator[Updates]:
        """Draw the lesson that is due: its first number is the step."""
        yield from self._show(session, replace(at.go(due[0]), open=True))

    def _show(self, session: Session | None, at: Walk) -> Iterator[Updates]:
        session = session or self._stored.session
        try:
            at = yield from self._measured(session, at)
        except FAILURES as error:
            yield learn_tab.failed(error)
            return
        shown = learn_tab.render(at, Scene(session, at.measured))
        yield shown | {"walk": replace(at, drawn=at.due(session))}

    def _measured(self, session: Session, at: Walk) -> Generator[Updates, None, Walk]:
        """The walk with the numbers of the session's text and head."""
        place = (replace(session.request, config=QuantConfig()), *session.selected)
        if at.place == place:
            return at
        stored = self._stored
        if session.precomputed and session.selected == stored.session.selected:
            return replace(at, place=place, measured=stored.lessons)
        steps = following(lambda progress: self._captures.prepare(session.request, progress))
        while True:
            try:
                fraction, text = next(steps)
            except StopIteration as end:
                prepared = end.value
                break
            yield learn_tab.busy(heard("progress", text), fraction)
        return replace(at, place=place, measured=engine.lessons(prepared, *session.selected))
