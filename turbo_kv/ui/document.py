"""The document before it is a page: its language, its head, and the picture for link previews.

An ASGI layer around the server. `/` sends a visitor to the page in the language that the link names
or else the browser asks for. Gradio's own head previews Gradio; its tags give way to ours. Knows
nothing of what the page does.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.middleware import Middleware

from turbo_kv.ui import head
from turbo_kv.ui.language import LANGUAGES, speaking

FIRST = next(iter(LANGUAGES))

PICTURE = Path(__file__).parents[2] / "assets" / "screenshots" / head.PREVIEW
_PATHS = {"/": FIRST} | {f"/{code}": code for code in LANGUAGES if code != FIRST}
_GRADIOS = re.compile(r'<meta\s+(?:property="og:|name="twitter:)[^>]*>')


class Document:
    """ASGI middleware for the paths of the page itself and the preview's picture."""

    def __init__(self, app: Any):
        self._app = app

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
        elif scope["path"] == f"/{head.PREVIEW}" and PICTURE.exists():
            await _answer(send, 200, PICTURE.read_bytes(), content_type="image/png")
        elif scope["path"] in _PATHS:
            await self._document(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _document(self, scope: dict, receive: Callable, send: Callable) -> None:
        here, headers = _PATHS[scope["path"]], Headers(scope=scope)
        query = scope["query_string"].decode("latin-1")
        named = parse_qs(query).get("lang", [""])[-1]
        there = named if named in LANGUAGES else here
        if here == FIRST and named not in LANGUAGES:
            there = preferred(headers.get("accept-language", ""))
        if there != here:
            # Relative, since a proxy may have put the page below a path of its own.
            address = f"{'./' if there == FIRST else there}{f'?{query}' if query else ''}"
            await _answer(send, 307, b"", location=address, vary="accept-language")
            return
        root = _root(scope, headers)

        def rewritten(body: bytes) -> bytes:
            return with_head(body.decode(), root, here).encode()

        await self._app(scope, receive, _rewriting(send, rewritten))


def preferred(accepted: str) -> str:
    """The language of an Accept-Language header that the page speaks, the heaviest first."""
    weighed = []
    for part in accepted.split(","):
        tag, _, weight = part.strip().partition(";q=")
        try:
            weighed.append((float(weight or 1), tag.split("-")[0].lower()))
        except ValueError:
            continue
    wanted = sorted(weighed, key=lambda each: -each[0])
    return next((tag for weight, tag in wanted if weight > 0 and tag in LANGUAGES), FIRST)


def with_head(html: str, root: str, language: str) -> str:
    """The document in its language, with our head in place of Gradio's previews."""
    start, config, rest = html.partition("<script>window.gradio_config")
    start = re.sub(r'lang="[^"]*"', f'lang="{head.TAGS[language]}"', start, count=1)
    with speaking(language):
        ours = head.about(root, language)
    return _GRADIOS.sub("", start).replace("<head>", f"<head>{ours}", 1) + config + rest


def document() -> list[Middleware]:
    """This layer, as a server takes it."""
    return [Middleware(Document)]


def _root(scope: dict, headers: Headers) -> str:
    """The page's address as the visitor's browser knows it."""
    scheme = headers.get("x-forwarded-proto", scope["scheme"]).split(",")[0].strip()
    host = headers.get("x-forwarded-host", headers.get("host", "localhost")).split(",")[0].strip()
    return f"{scheme}://{host}{scope.get('root_path', '')}".rstrip("/")


def _rewriting(send: Callable, rewrite: Callable[[bytes], bytes]) -> Callable:
    """A `send` that holds an HTML body back until it is whole, and rewrites it."""
    start: dict = {}
    body = bytearray()

    async def sending(message: dict) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
            return
        body.extend(message.get("body", b""))
        if message.get("more_body"):
            return
        headers = Headers(raw=start["headers"])
        content = bytes(body)
        if content and headers.get("content-type", "").startswith("text/html"):
            content = rewrite(content)
            raw = [pair for pair in start["headers"] if pair[0].lower() != b"content-length"]
            start["headers"] = [*raw, (b"content-length", b"%d" % len(content))]
        await send(start)
        await send(message | {"body": content})

    return sending


async def _answer(send: Callable, status: int, body: bytes, **headers: str) -> None:
    raw = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    raw.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
