"""The measuring side as the page uses it: imported on first use, one prompt captured at a time.

torch and transformers take seconds to import, and the page must not wait for them. Captures are
kept by request, so that a switch only quantizes again; the least recently used one leaves first,
and all of them where memory runs short.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from turbo_kv.measure.lesson_report import Lessons
from turbo_kv.measure.report import Report, Request
from turbo_kv.measure.transcript import GenerationRequest, Transcript
from turbo_kv.models.shortage import ShortOfMemoryError
from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui import limits
from turbo_kv.ui.deadline import Deadline

if TYPE_CHECKING:
    from turbo_kv.measure.analyze import Prepared

Progress = Callable[[float, str], None]
Result = TypeVar("Result")

_importing = threading.Lock()


def _import_measuring() -> None:
    """Import the measuring side, one thread at a time.

    Two threads that first import transformers at once each find some of its names missing.
    """
    with _importing:
        import turbo_kv.bench.stamp
        import turbo_kv.measure.analyze
        import turbo_kv.measure.attention_map
        import turbo_kv.measure.compare_generation
        import turbo_kv.measure.frozen
        import turbo_kv.measure.lesson  # noqa: F401


class Map(NamedTuple):
    """One head's attention, exact and packed, `(queries, keys)`, as `AttentionMap` measures it."""

    exact: np.ndarray
    packed: np.ndarray
    first_key: int
    mass: float
    total_variation: float
    top1: float
    query_tokens: tuple[str, ...]
    key_tokens: tuple[str, ...]


class Captures:
    """At most `limit` prepared prompts over all visitors, and beside the newest `nbytes` bytes."""

    def __init__(self, limit: int, nbytes: int = limits.LOCAL.capture_bytes) -> None:
        self._limit, self._nbytes = limit, nbytes
        self._kept: OrderedDict[Request, Prepared] = OrderedDict()
        self._shelf = threading.Lock()
        self._model = threading.Lock()

    def find(self, request: Request) -> "Prepared | None":
        """The capture of this model, text, context and device; None when it is not kept."""
        key = _key(request)
        with self._shelf:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def prepare(self, request: Request, progress: Progress) -> "Prepared":
        """The kept capture, or a new one: one model works at a time. Raises what `prepare` does."""
        with self._model:
            if (kept := self.find(request)) is not None:
                return kept
            deadline = Deadline(limits.here().stage_seconds, "Loading and reading")
            watched = deadline.watching(progress)
            prepared = self.with_room(lambda: _read(request, watched), watched)
            with self._shelf:
                self._kept[_key(request)] = prepared
                while len(self._kept) > self._limit or self._are_too_large():
                    self._kept.popitem(last=False)
            return prepared

    def with_room(self, work: Callable[[], Result], progress: Progress) -> Result:
        """What `work()` returns; where memory is short, kept captures go and it is tried again.

        Raises what the work raises; ShortOfMemoryError says how much went in vain.
        """
        try:
            return work()
        except ShortOfMemoryError as error:
            shortage = error.with_traceback(None)  # whose frames hold what the work held
        freed = self._let_go(shortage)
        progress(0.0, f"Memory was short: let go of {freed}")
        try:
            return work()
        except ShortOfMemoryError as error:
            raise ShortOfMemoryError(f"{error} (after letting go of {freed})") from None

    def measure(self, prepared: "Prepared", config: QuantConfig) -> Iterator[Report]:
        """As `measure`; where memory is short, the other captures go and it starts again."""
        try:
            yield from measure(prepared, config)
            return
        except ShortOfMemoryError as error:
            shortage = error.with_traceback(None)
        freed = self._let_go(shortage, beside=prepared)
        try:
            yield from measure(prepared, config)
        except ShortOfMemoryError as error:
            raise ShortOfMemoryError(f"{error} (after letting go of {freed})") from None

    def first_step(
        self, request: GenerationRequest, progress: Progress
    ) -> tuple[Transcript, Iterator[Transcript]]:
        """As `first_step`, with the room that captures take."""
        return self.with_room(lambda: first_step(request, progress), progress)

    def _let_go(self, shortage: ShortOfMemoryError, beside: "Prepared | None" = None) -> str:
        """What was kept and is no longer, in words. Raises the shortage where nothing was kept."""
        from turbo_kv.models.memory import release

        with self._shelf:
            gone = {key: each for key, each in self._kept.items() if each is not beside}
            for key in gone:
                del self._kept[key]
        if not gone:
            raise shortage
        size = sum(each.capture.nbytes for each in gone.values())
        said = (
            f"{len(gone)} kept {'reading' if len(gone) == 1 else 'readings'} ({size / 1e6:,.0f} MB)"
        )
        gone.clear()
        release()
        return said

    def _are_too_large(self) -> bool:
        sizes = [prepared.capture.nbytes for prepared in self._kept.values()]
        return len(sizes) > 1 and sum(sizes) > self._nbytes


def _read(request: Request, progress: Progress) -> "Prepared":
    _import_measuring()
    from turbo_kv.measure.analyze import prepare

    if not limits.borrows_gpu():
        return prepare(request, progress)
    from turbo_kv.measure.frozen import make_ready, thaw

    make_ready(request.model, request.device, progress)
    progress(0.5, "Waiting for a GPU, then reading")
    return thaw(_read_frozen(request))


@limits.on_gpu
def _read_frozen(request: Request) -> bytes:
    from turbo_kv.measure.analyze import prepare
    from turbo_kv.measure.frozen import freeze

    return freeze(prepare(request))


@limits.on_gpu
def _continued(request: GenerationRequest) -> Iterator[Transcript]:
    from turbo_kv.measure.compare_generation import compare_generation

    yield from compare_generation(request)


def _key(request: Request) -> Request:
    return replace(request, config=QuantConfig())


def measure(prepared: "Prepared", config: QuantConfig) -> Iterator[Report]:
    """A partial report after each layer; the last one is complete."""
    _import_measuring()
    from turbo_kv.measure.analyze import measure

    return Deadline(limits.here().stage_seconds, "Measuring").over(measure(prepared, config))


def attention_map(prepared: "Prepared", config: QuantConfig, layer: int, head: int) -> Map:
    """Exact and packed attention of one query head over the last tokens."""
    _import_measuring()
    from turbo_kv.measure.attention_map import attention_map

    measured = attention_map(prepared, config, layer, head)
    return Map(*(getattr(measured, name) for name in Map._fields))


def lessons(prepared: "Prepared", layer: int, head: int) -> Lessons:
    """What the walkthrough shows on one query head."""
    _import_measuring()
    from turbo_kv.measure.lesson import lessons

    return lessons(prepared, layer, head)


def first_step(
    request: GenerationRequest, progress: Progress
) -> tuple[Transcript, Iterator[Transcript]]:
    """Read a prompt and say its first token: the transcript so far, and those to come."""
    _import_measuring()
    from turbo_kv.measure.compare_generation import compare_generation
    from turbo_kv.measure.frozen import make_ready

    deadline = Deadline(limits.here().stage_seconds, "Generating")
    if limits.borrows_gpu():
        make_ready(request.model, request.device, deadline.watching(progress))
        transcripts = _continued(request)
    else:
        transcripts = compare_generation(request, deadline.watching(progress))
    transcripts = deadline.over(transcripts)
    return next(transcripts), transcripts


def stamp() -> dict[str, Any]:
    """What a result of this server is measured with."""
    _import_measuring()
    from turbo_kv.bench.stamp import stamp

    return stamp()


def warm(captures: Captures, request: Request) -> None:
    """Import torch, read the text and measure it once, so that the first click is quick."""
    prepared = captures.prepare(request, lambda fraction, text: None)
    for _ in measure(prepared, request.config):
        pass
