"""What happens on Generate and its Stop: the streams grow on the page, a few times a second.

Plain generators of updates by component name, as in `actions`. A result stays until the first
tokens of another replace it.
"""

from collections.abc import Generator, Iterator
from contextlib import closing
from html import escape
from time import perf_counter
from typing import Any

from turbo_kv.measure.transcript import STREAMS, GenerationRequest, Transcript
from turbo_kv.ui import engine, form, generate_tab, generation_words, limits, status
from turbo_kv.ui.actions import FAILURES, Updates
from turbo_kv.ui.following import following
from turbo_kv.ui.language import heard, say

INTERVAL = 0.15
"""Seconds between two drawings: a drawing costs a message, not a token."""


class GenerateActions:
    """The tab's actions on one server."""

    def __init__(self, host: limits.Limits, captures: engine.Captures) -> None:
        self._host = host
        self._captures = captures

    def wait(self) -> Updates:
        """Answer the click while the model still works for somebody else."""
        return generate_tab.locked(True) | _busy(say("generate.waiting"), 0)

    def generate(self, *values: Any) -> Iterator[Updates]:
        """Continue the prompt twice and show both streams as they come."""
        try:
            request = limits.generation(dict(zip(generate_tab.FIELDS, values)), self._host)
        except limits.FieldError as error:
            yield _refused(error.field, error)
            return
        yield (
            generate_tab.locked(True) | generate_tab.messages({}) | _busy(say("status.starting"), 0)
        )
        start = perf_counter()
        try:
            transcript = yield from _streams(request, self._captures)
        except FAILURES as error:
            yield _refused(_field_of(error), error)
            return
        seconds = perf_counter() - start
        tokens = sum(map(transcript.tokens, STREAMS))
        done = say("generate.done", tokens=f"{tokens:,}", seconds=f"{seconds:.1f}")
        yield generate_tab.locked(False) | {"generate_status": status.html(status.DONE, done)}

    def stop(self) -> Updates:
        """Say so; the streams end at their next token, and what they said stays."""
        return generate_tab.locked(False) | {
            "generate_status": status.html(status.READY, say("generate.stopped"))
        }


def _streams(
    request: GenerationRequest, captures: engine.Captures
) -> Generator[Updates, None, Transcript]:
    """Load, read the prompt, then draw the growing transcript; returns the complete one."""
    for_first = following(lambda progress: captures.first_step(request, progress))
    while True:
        try:
            fraction, text = next(for_first)
        except StopIteration as end:
            transcript, rest = end.value
            break
        yield _busy(heard("progress", text), fraction)
    yield {"generate_status": status.html(status.READY, say("generate.generating"))}
    sentence, drawn = None, 0.0
    with closing(rest):
        while True:
            changes: Updates = {}
            if (said := generation_words.parting(transcript)) != sentence:
                sentence = said
                changes["parting"] = escape(said, quote=False)
            if changes or transcript.complete or perf_counter() - drawn >= INTERVAL:
                drawn = perf_counter()
                yield changes | generate_tab.render(transcript, say("generate.here"))
            if transcript.complete:
                return transcript
            transcript = next(rest)


def _busy(text: str, fraction: float) -> Updates:
    return {"generate_status": status.html(status.BUSY, text, fraction)}


def _refused(field: str, error: Exception) -> Updates:
    message = heard("error", str(error))
    said = say("generate.refused", error=message)
    return (
        generate_tab.locked(False)
        | generate_tab.messages({field: message})
        | {"generate_status": status.html(status.FAILED, said)}
    )


def _field_of(error: Exception) -> str:
    """The field that a failed run's message belongs to."""
    return "prompt" if "prompt" in str(error) else form.field_of(error)
