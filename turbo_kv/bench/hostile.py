"""Requests that nobody means well, as bytes over HTTP, and what a server must not answer to them.

A generator of cases, seeded: a corpus of values in the place of every argument of every endpoint,
broken bodies, bodies too large, and paths that lead outside. Knows the page by its HTTP API alone.
"""

import http.client
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from turbo_kv.quant.config import QuantConfig

TIMEOUT = 60
CANARY = "canary-of-turbo-kv"
"""What a file outside says; an answer that repeats it has leaked."""

GIVEN_AWAY = ("Traceback (most recent call last)", "site-packages", 'File "/')

_STRINGS = (
    "../../../../etc/passwd",
    "..\\..\\windows\\win.ini",
    "/proc/self/environ",
    "file:///etc/passwd",
    "http://169.254.169.254/latest/meta-data/",
    "<script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    "{{7*7}}${7*7}#{7*7}<%= 7*7 %>",
    "'; DROP TABLE users; --",
    "$(touch /tmp/owned)`id`",
    "%s%n%x" * 50,
    "\0" * 100,
    "\ud800\udfff\u202e\ufeff",
    "Z̷͐a͋l̷g̓o" * 100,
    "A" * 300_000,
    "Qwen/Qwen2.5-999B",
    "",
    " " * 999,
)
_NUMBERS = (float("nan"), float("inf"), -float("inf"), 1e308, -1, 0, 2**63, 10**30, 0.5, -0.0)
_OTHERS = (None, [], {}, [[[]]], {"a": 1}, True, [1, 2, 3], {"path": "x"}, {"__type__": "update"})
_BODIES = (
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe\x00",
    b'{"data": 5}',
    b'{"data": null}',
    b"{}",
    b'{"data": [' + b"[" * 3000 + b"]" * 3000 + b"]}",
    b'{"data": [], "fn_index": 99999, "session_hash": "../../x"}',
    b'{"data": [], "fn_index": -1, "session_hash": {}}',
    b'{"data": [], "trigger_id": "x", "event_data": {"_data": "x"}, "fn_index": 0}',
    b"x" * 10_000_000,
)
_CALLS = ("/gradio_api/queue/join", "/gradio_api/run/predict", "/gradio_api/run/analyze")
_EVENTS = range(40)  # of the page, by their numbers; those it does not publish too
_ENDPOINTS = {
    "analyze": ["tiny", "", "Prose", 32, "auto"],
    "generate": ["Once", "tiny", 1, 0.0, 0, 0, "auto"],
    "plan": [1024, 1, 24.0],
}
_CHOICES = list(QuantConfig().to_dict().values())


@dataclass(frozen=True)
class Case:
    """One request; `event` names the endpoint whose result must be fetched after it."""

    method: str
    path: str
    body: bytes = b""
    event: str | None = None


@dataclass(frozen=True)
class Answer:
    """Everything a case brought back."""

    statuses: tuple[int, ...]
    text: str

    @property
    def is_result(self) -> bool:
        """Whether an endpoint did what it was asked; it may have told its steps before."""
        return "event: complete\n" in self.text and "event: error\n" not in self.text

    @property
    def faults(self) -> list[str]:
        """What was wrong with it, nothing for a server that held."""
        found = [f"status {status}" for status in self.statuses if status >= 500]
        found += [f"gave away {sign!r}" for sign in GIVEN_AWAY if sign in self.text]
        return found + (["leaked a file"] if CANARY in self.text else [])


def cases(count: int, outside: str, seed: int = 0) -> Iterator[Case]:
    """`count` cases in a seeded order. outside: the path of a file that says CANARY."""
    all_cases = [*_values(outside), *_events(outside), *_bodies(), *_paths(outside)]
    random.Random(seed).shuffle(all_cases)
    for index in range(count):
        yield all_cases[index % len(all_cases)]


def call(url: str, endpoint: str, values: list[object]) -> Answer:
    """Call a named endpoint as a program without Gradio's client would."""
    body = json.dumps({"data": values}).encode()
    return ask(url, Case("POST", f"/gradio_api/call/{endpoint}", body, endpoint))


def ask(url: str, case: Case) -> Answer:
    """Send a case, and fetch what became of it. Raises OSError when nobody answers."""
    status, body = _send(url, case.method, case.path, case.body)
    if case.event is None or status != 200:
        return Answer((status,), body.decode("utf-8", "replace"))
    event = json.loads(body)["event_id"]
    second, result = _send(url, "GET", f"/gradio_api/call/{case.event}/{event}", b"")
    return Answer((status, second), result.decode("utf-8", "replace"))


def _values(outside: str) -> Iterator[Case]:
    file = {"path": outside, "meta": {"_type": "gradio.FileData"}, "orig_name": "a.txt"}
    for name, own in _ENDPOINTS.items():
        usual = [*own, *_CHOICES]
        for place in range(len(usual)):
            for value in (*_STRINGS, *_NUMBERS, *_OTHERS, file, outside):
                data = [*usual[:place], value, *usual[place + 1 :]]
                body = json.dumps({"data": data}).encode()
                yield Case("POST", f"/gradio_api/call/{name}", body, name)


def _events(outside: str) -> Iterator[Case]:
    chosen = {"index": [999, "x"], "value": outside}
    for event in _EVENTS:
        for value in (None, [], {}, 1e308, "<script>alert(1)</script>", outside):
            for inputs in (1, 9, 14):
                call = {"fn_index": event, "session_hash": "s", "event_data": chosen}
                body = json.dumps(call | {"data": [value] * inputs}).encode()
                yield from (Case("POST", path, body) for path in _CALLS[:2])


def _bodies() -> Iterator[Case]:
    paths = [f"/gradio_api/call/{name}" for name in _ENDPOINTS]
    paths += [f"/gradio_api/call/v2/{name}" for name in _ENDPOINTS]
    for path in (*paths, *_CALLS, "/gradio_api/call/no-such-name", "/gradio_api/upload"):
        for body in _BODIES:
            yield Case("POST", path, body)


def _paths(outside: str) -> Iterator[Case]:
    wanted = (outside, "/etc/passwd", f"../../../..{outside}", "app.py", "~/.ssh/id_rsa")
    for path in wanted:
        for form in (
            path,
            quote(path, safe=""),
            path.replace("/", "%2f"),
            path.replace(".", "%2e"),
        ):
            for root in ("/gradio_api/file=", "/file=", "/static/", "/assets/", "/gradio_api/"):
                yield Case("GET", root + quote(form, safe="/%~."))


def _send(url: str, method: str, path: str, body: bytes) -> tuple[int, bytes]:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=TIMEOUT)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    except (BrokenPipeError, ConnectionResetError):
        return 413, b""  # refused while the body was still on its way
    finally:
        connection.close()
