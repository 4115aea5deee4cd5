"""How far a download is: bytes, speed and time left, as progress.

Knows nothing of where the bytes come from.
"""

import time
from collections import deque
from collections.abc import Callable

from turbo_kv.models.progress import Progress

INTERVAL = 0.2
"""Seconds between two messages: a message costs more than a piece of a file."""

WINDOW = 10.0
"""Seconds that the speed is an average of."""


class Transfer:
    """`total` bytes of something named, told to `progress`, which may raise to stop the work."""

    def __init__(
        self,
        name: str,
        total: int,
        progress: Progress,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.name, self.total = name, total
        self.done = 0
        self._progress, self._clock = progress, clock
        self._told = float("-inf")
        self._arrived: deque[tuple[float, int]] = deque([(clock(), 0)])
        self._came = 0

    def skip(self, size: int) -> None:
        """`size` bytes need not come; a negative number: must come again."""
        self.done += size

    def add(self, size: int) -> None:
        """`size` bytes came."""
        self.done += size
        self._came += size
        now = self._clock()
        self._arrived.append((now, self._came))
        while now - self._arrived[0][0] > WINDOW:
            self._arrived.popleft()
        self.say(self.text)

    def say(self, text: str) -> None:
        """Tell something else at this point, such as a wait."""
        now = self._clock()
        if now - self._told >= INTERVAL:
            self._told = now
            self._progress(min(1.0, self.done / max(1, self.total)), text)

    @property
    def speed(self) -> float:
        """Bytes per second of late; 0 when none came."""
        (start, before), (end, after) = self._arrived[0], self._arrived[-1]
        return (after - before) / (end - start) if end > start else 0.0

    @property
    def text(self) -> str:
        """Bytes, speed and time left in a line."""
        said = f"Downloading {self.name}: {size(self.done)} of {size(self.total)}"
        if not self.speed:
            return said
        left = max(0, self.total - self.done) / self.speed
        return f"{said}, {size(self.speed)}/s, {_duration(left)} left"


def size(nbytes: float) -> str:
    """Bytes in the decimal units that the hub states: 988 MB, 1.54 GB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if nbytes >= factor:
            digits = 2 if unit == "GB" else 1 if nbytes < 100 * factor else 0
            return f"{nbytes / factor:.{digits}f} {unit}"
    return f"{nbytes:.0f} B"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
