"""What happens on Compare, its Stop, a change of choice and a download of points.

Plain generators of updates by component name, as in `actions`. Each measured method joins the
visitor's session, so that nothing is measured twice on one reading.
"""

import json
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import gradio as gr

from turbo_kv.measure.point import Point, to_csv
from turbo_kv.measure.report import Request
from turbo_kv.ui import compare_tab, compared, downloads, engine, status
from turbo_kv.ui.actions import FAILURES, Updates, shown
from turbo_kv.ui.compare_words import called
from turbo_kv.ui.compared import Compared
from turbo_kv.ui.engine import Captures
from turbo_kv.ui.following import following
from turbo_kv.ui.language import heard, say, speaking
from turbo_kv.ui.precomputed import Precomputed
from turbo_kv.ui.session import Session


class CompareActions:
    """The tab's actions on one server; `captures` are those its runs keep."""

    def __init__(self, captures: Captures, first: Precomputed, stored: Compared) -> None:
        self._captures = captures
        self._first = first
        self._stored = stored

    def compare(
        self, session: Session | None, methods: Sequence[str], first: str, second: str
    ) -> Iterator[Updates]:
        """Measure what is missing of the chosen methods and of the two picked, one by one."""
        session = session or self._first.session
        wanted = [name for name in compare_tab.METHODS if name in {*methods, first, second}]
        known = compared.points(session, self._stored)
        missing = [name for name in wanted if compare_tab.METHODS[name] not in known]
        start = perf_counter()
        yield _locked(True) | {"methods_message": ""} | _busy(say("status.starting"), 0)
        try:
            if missing:
                prepared = yield from self._prepared(session.request)
            for done, name in enumerate(missing):
                yield _busy(say("compare.measuring", name=called(name)), done / len(missing))
                *_, report = self._captures.measure(prepared, compare_tab.METHODS[name])
                points = session.points | {report.config: Point.of(report)}
                session = replace(session, points=points)
                yield self.draw(session, methods, first, second) | {"session": session}
        except FAILURES as error:
            yield _failed(error)
            return
        seconds = perf_counter() - start
        said = say("compare.done", count=len(missing), seconds=f"{seconds:.1f}")
        if not missing:
            said = say("compare.nothing")
        yield (
            self.draw(session, methods, first, second)
            | _locked(False)
            | {"compare_status": status.html(status.DONE, said)}
        )

    def draw(
        self, session: Session | None, methods: Sequence[str], first: str, second: str
    ) -> Updates:
        """The points there are; nothing is measured."""
        session = session or self._first.session
        return compare_tab.render(session, self._stored, methods, first, second)

    def stop(self) -> Updates:
        """Say so; what is measured stays."""
        said = say("compare.stopped")
        return _locked(False) | {"compare_status": status.html(status.READY, said)}

    def download(
        self,
        session: Session | None,
        methods: Sequence[str],
        first: str,
        second: str,
        event: gr.SelectData,
    ) -> Updates:
        """Hand over the points shown, or their figure. Raises ValueError for another file."""
        session, name = session or self._first.session, str(event.value)
        if name not in compare_tab.FILES:
            allowed = ", ".join(compare_tab.FILES)
            raise ValueError(f"there is no file {name!r}; choose one of {allowed}")
        points = compare_tab.measured(session, self._stored, methods)
        if name == "methods.csv":
            content = to_csv(points)
        elif name == "methods.json":
            content = self._json(session, points)
        else:
            with speaking("en"):  # files are read by anybody
                plot = self.draw(session, methods, first, second)["compare_plot"]
            content = downloads.standalone(plot)
        return {"compare_files": downloads.with_file(name, content.encode())}

    def _json(self, session: Session, points: Sequence[Point]) -> str:
        report = session.shown
        alone = session.precomputed and all(p.config in self._stored.points for p in points)
        data = {
            "stamp": self._stored.stamp if alone else engine.stamp(),
            "model": report.to_dict()["model"],
            "text": report.to_dict()["text"],
            "tokens": report.tokens,
            "points": [point.to_dict() for point in points],
        }
        return json.dumps(data, indent=1, allow_nan=False)

    def _prepared(self, request: Request) -> Generator[Updates, None, Any]:
        kept = self._captures.find(request)
        if kept is not None:
            return kept
        steps = following(lambda progress: self._captures.prepare(request, progress))
        return (yield from shown(steps, _busy))


def _locked(busy: bool) -> Updates:
    return {
        "compare": gr.update(interactive=not busy),
        "compare_stop": gr.update(interactive=busy),
    }


def _busy(text: str, fraction: float) -> Updates:
    return {"compare_status": status.html(status.BUSY, text, fraction)}


def _failed(error: Exception) -> Updates:
    said = heard("error", str(error))
    return _locked(False) | {
        "methods_message": status.alert(said),
        "compare_status": status.html(status.FAILED, say("compare.failed", error=said)),
    }
