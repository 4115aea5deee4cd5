"""A stage of work may take so long, and no longer: checked wherever the work says how far it is.

Knows nothing of the work.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TypeVar

Item = TypeVar("Item")


class Deadline:
    """`seconds` from now, None for no end; `stage` is how the message begins."""

    def __init__(
        self,
        seconds: float | None,
        stage: str,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._seconds, self._stage, self._clock = seconds, stage, clock
        self._start = clock()

    def check(self) -> None:
        """ValueError once the time is over."""
        if self._seconds is not None and self._clock() - self._start > self._seconds:
            raise ValueError(
                f"{self._stage} took longer than the {self._seconds:.0f} s that this server gives; "
                "choose a shorter text or a smaller model, or run turbo_kv on your own machine"
            )

    def watching(self, progress: Callable[[float, str], None]) -> Callable[[float, str], None]:
        """The same progress, which ends the work in time."""

        def watched(fraction: float, text: str) -> None:
            self.check()
            progress(fraction, text)

        return watched

    def over(self, items: Iterator[Item]) -> Iterator[Item]:
        """The same items; the iterator behind them is closed with this one."""
        with closing(items):
            for item in items:
                yield item
                self.check()
