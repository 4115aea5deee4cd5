"""At the door of the server: how large a request may be, and how many a visitor may make.

A visitor is an address. Every event of the page and every API call is one request to post; what the
page fetches is not counted. Knows nothing of what is asked for.
"""

import json
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from starlette.middleware import Middleware

log = logging.getLogger(__name__)

LARGEST = 4_000_000
"""Bytes of a request: a text of 1 MB, escaped as JSON, and the rest of the form."""

DIRECT = "/gradio_api/run/"
"""Where Gradio answers 500 for a value that a component or an action refuses, having logged why."""

WINDOW = 60.0
"""Seconds that a rate counts over."""

VISITORS = 10_000
"""Addresses remembered; the one unseen for longest is forgotten first."""


class Rate:
    """At most so many in every WINDOW, per visitor and over all of them; 0 for no limit."""

    def __init__(
        self, per_visitor: int, everybody: int, clock: Callable[[], float] = time.monotonic
    ):
        self._per_visitor, self._everybody, self._clock = per_visitor, everybody, clock
        self._visits: OrderedDict[str, deque[float]] = OrderedDict()
        self._all: deque[float] = deque()

    def wait(self, visitor: str) -> float:
        """Seconds until this visitor may come in; 0 when now, and then the visit counts."""
        now = self._clock()
        own = self._visits.setdefault(visitor, deque())
        self._visits.move_to_end(visitor)
        if len(self._visits) > VISITORS:
            self._visits.popitem(last=False)
        seconds = max(
            _until_free(own, self._per_visitor, now), _until_free(self._all, self._everybody, now)
        )
        if not seconds:
            own.append(now)
            self._all.append(now)
        return seconds


class Gate:
    """ASGI middleware that turns away what is too much, with a sentence as `detail`."""

    def __init__(self, app: Any, rate: Rate, behind_proxy: bool):
        self._app, self._rate, self._behind_proxy = app, rate, behind_proxy

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > LARGEST:
            said = f"The request has more than {LARGEST:,} bytes, which is the most read here."
            await _refuse(send, 413, said)
        elif seconds := self._rate.wait(self._visitor(scope, headers)):
            said = f"Too many requests for this server. Try again in {round(seconds + 0.5)} s."
            await _refuse(send, 429, said, round(seconds + 0.5))
        else:
            await self._pass(scope, _bounded(receive), send)

    async def _pass(self, scope: dict, receive: Callable, send: Callable) -> None:
        """Let a request in; what Gradio stumbles over is the caller's mistake.

        An unknown parameter's name, for one, raises there.
        """
        answered = False

        async def sending(message: dict) -> None:
            nonlocal answered
            answered = True
            if DIRECT in scope["path"] and message.get("status") == 500:
                message = message | {"status": 422}
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except (TypeError, ValueError, LookupError):
            if answered:
                raise
            log.warning("A request to %s was not understood", scope["path"], exc_info=True)
            await _refuse(send, 400, "The request was not understood; see the page's API.")

    def _visitor(self, scope: dict, headers: dict[bytes, bytes]) -> str:
        if self._behind_proxy and (forwarded := headers.get(b"x-forwarded-for")):
            # The last address is the one that the proxy saw itself; anybody can write the others.
            return forwarded.decode("latin-1").rsplit(",", maxsplit=1)[-1].strip()
        return (scope.get("client") or ("unknown",))[0]


def middleware(per_visitor: int, everybody: int, behind_proxy: bool) -> list[Middleware]:
    """The gate, as a server takes it."""
    return [Middleware(Gate, rate=Rate(per_visitor, everybody), behind_proxy=behind_proxy)]


def _until_free(visits: deque[float], limit: int, now: float) -> float:
    while visits and now - visits[0] >= WINDOW:
        visits.popleft()
    return visits[0] + WINDOW - now if limit and len(visits) >= limit else 0.0


def _bounded(receive: Callable) -> Callable:
    """The request's body up to LARGEST bytes; a longer one, undeclared, ends as if hung up."""
    seen = 0

    async def bounded() -> dict:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return {"type": "http.disconnect"} if seen > LARGEST else message

    return bounded


async def _refuse(send: Callable, status: int, said: str, wait: int | None = None) -> None:
    body = json.dumps({"detail": said}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if wait is not None:
        headers.append((b"retry-after", b"%d" % wait))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
