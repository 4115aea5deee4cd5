"""Slow work as a generator of its progress, so that the page can show it and a visitor can stop it.

Stopping is cooperative: the work ends at its next progress call. Knows nothing of the work.
"""

import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import TypeVar

Result = TypeVar("Result")
Step = tuple[float, str]

HEARTBEAT = 0.5
"""Seconds after which the last step is told again: a closed generator ends at its next yield."""


class StoppedError(Exception):
    """Raised inside the work, at a progress call, once nobody follows it any more."""


def following(
    work: Callable[[Callable[[float, str], None]], Result],
) -> Generator[Step, None, Result]:
    """Run `work(progress)` in a thread, yield each (fraction, text), return its result.

    Raises what the work raises.
    """
    steps: SimpleQueue[Step | None] = SimpleQueue()
    abandoned = threading.Event()

    def progress(fraction: float, text: str) -> None:
        if abandoned.is_set():
            raise StoppedError
        steps.put((fraction, text))

    thread = ThreadPoolExecutor(max_workers=1)
    future = thread.submit(work, progress)
    future.add_done_callback(lambda _: steps.put(None))
    thread.shutdown(wait=False)
    latest: Step | None = None
    try:
        while True:
            try:
                latest = steps.get(timeout=HEARTBEAT)
            except Empty:
                if latest is None:
                    continue
            if latest is None:
                return future.result()
            yield latest
    finally:
        abandoned.set()
