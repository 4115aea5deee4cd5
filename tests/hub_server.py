"""A Hugging Face hub on the loopback interface, for the real client: enough to fetch a model.

Serves folders as repositories: model information with every file's size and hash, tree listing, and
files with HEAD, ranges and entity tags. Safetensors are large files: answered with a redirection to
another host, which holds the bytes and takes no token. `faults` say what goes wrong, in order, one
for each request of a file's bytes (by its name), of the model's information ("info"), or of a
file's headers ("head"):

    404      that status instead; (429, 2) with the header Retry-After: 2
    "cut"       the connection ends halfway through what was asked for
    "slow"      1,000 bytes a second
    "damaged"   one byte is another
    "truncated" half of the file, as if that were all
    "unranged"  the whole file, whatever range was asked for
    None        nothing goes wrong
"""

import hashlib
import json
import re
import time
from collections.abc import Iterable, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

from turbo_kv.models.catalog import card

COMMIT = card("Qwen2.5-0.5B").revision
PRIVATE = "private/"
TOKEN = "hf_test"


class Hub:
    """Serves within `with Hub({"owner/name": folder}) as hub:` on `hub.url`.

    `hub.asked` lists the requests. Repositories below "private/" need the token "hf_test".
    """

    def __init__(
        self,
        repositories: Mapping[str, Path],
        faults: Mapping[str, Iterable[object]] | None = None,
    ):
        self.repositories = repositories
        self.faults = {name: iter(each) for name, each in (faults or {}).items()}
        self.asked: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.storage = f"http://localhost:{self._server.server_port}"

    def __enter__(self) -> "Hub":
        Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, hub: Hub, *args):
        self.hub = hub
        super().__init__(*args)

    def log_message(self, *_) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        self.hub.asked.append(f"{self.command} {path} {self.headers.get('Range', '')}".strip())
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/(?:resolve|bytes)/([^/]+)/(.+)", path)
        repository = (api or file or ["", ""])[1]
        folder = self.hub.repositories.get(repository)
        if folder is None:
            self._refuse(404, "RepoNotFound")
        elif repository.startswith(PRIVATE) and not self._may_enter(path):
            self._refuse(401, "GatedRepo")
        elif (api[3] if api else file[2]) not in (None, "main", COMMIT):
            self._refuse(404, "RevisionNotFound")
        elif file:
            self._send_file(folder / file[3], is_stored="/bytes/" in path)
        elif api[2] == "tree":
            self._send_json([_entry(item) for item in sorted(folder.iterdir())])
        else:
            siblings = [_sibling(item) for item in sorted(folder.iterdir())]
            if not self._fails("info"):
                self._send_json({"id": api[1], "sha": COMMIT, "siblings": siblings})

    def _may_enter(self, path: str) -> bool:
        return "/bytes/" in path or self.headers["Authorization"] == f"Bearer {TOKEN}"

    def _fails(self, name: str) -> object:
        """The next fault of that name, None for none; a status is already sent."""
        fault = next(self.hub.faults.get(name, iter(())), None)
        if isinstance(fault, int | tuple):
            status, wait = fault if isinstance(fault, tuple) else (fault, None)
            self._refuse(status, "", wait)
        return fault

    def _refuse(self, status: int, code: str, wait: int | None = None) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        if wait is not None:
            self.send_header("Retry-After", str(wait))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_file(self, path: Path, is_stored: bool) -> None:
        if not path.is_file():
            self._refuse(404, "EntryNotFound")
            return
        content = path.read_bytes()
        if _is_large(path) and not is_stored:
            self._redirect(content)
        elif self.command == "HEAD":
            if not self._fails("head"):
                self._headers(200, content, len(content))
        else:
            self._send_bytes(path.name, content)

    def _redirect(self, content: bytes) -> None:
        if self.command == "HEAD" and self._fails("head"):
            return
        self.send_response(302)
        self.send_header("Location", self.hub.storage + self.path.replace("/resolve/", "/bytes/"))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("X-Linked-Etag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Linked-Size", str(len(content)))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_bytes(self, name: str, content: bytes) -> None:
        fault = self._fails(name)
        if isinstance(fault, int | tuple):
            return
        whole = content
        if fault == "truncated":
            whole = content[: len(content) // 2]
        elif fault == "damaged":
            whole = content[:-1] + bytes([content[-1] ^ 1])
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted and fault != "unranged" else 0
        if start >= len(whole) > 0:
            self._refuse(416, "")
            return
        body = whole[start:]
        self._headers(206 if start else 200, content, len(body), start)
        if fault == "cut":
            body = body[: len(body) // 2]
            self.close_connection = True
        if fault == "slow":
            for begin in range(0, len(body), 100):
                self.wfile.write(body[begin : begin + 100])
                time.sleep(0.1)
        else:
            self.wfile.write(body)

    def _headers(self, status: int, content: bytes, length: int, start: int = 0) -> None:
        self.send_response(status)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{start + length - 1}/{len(content)}")
        self.send_header("ETag", f'"{_blob_id(content)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(length))
        self.end_headers()


def _is_large(path: Path) -> bool:
    return path.suffix == ".safetensors"


def _entry(path: Path) -> dict[str, object]:
    content = path.read_bytes()
    entry = {"type": "file", "path": path.name, "size": len(content), "oid": _blob_id(content)}
    if _is_large(path):
        digest = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 134}
    return entry


def _sibling(path: Path) -> dict[str, object]:
    entry = _entry(path)
    sibling = {"rfilename": path.name, "size": entry["size"], "blobId": entry["oid"]}
    if "lfs" in entry:
        large = entry["lfs"]
        sibling["lfs"] = {"sha256": large["oid"], "size": large["size"], "pointerSize": 134}
    return sibling


def _blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
