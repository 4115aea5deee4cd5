"""One file of the hub into its cache: resumed where it stopped, verified, then renamed into place.

The cache names a file by the hash of its content, so what bears a name is whole. What has arrived
of an unfinished one waits beside it as "<hash>.turbo_kv.incomplete" and is continued, by any later
process; the hub's own client would start it over. Knows nothing of models.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from huggingface_hub import constants, get_session
from huggingface_hub.errors import HTTPError
from huggingface_hub.utils import WeakFileLock, build_hf_headers, hf_raise_for_status

from turbo_kv.models.transfer import Transfer

Answer = TypeVar("Answer")

ATTEMPTS = 5
"""Requests for a file in a row that bring nothing, before giving up."""

PAUSE = 1.0
"""Seconds before the second attempt; they double with every further one."""

LONGEST_PAUSE = 30.0
"""A hub that asks for more patience than this is told to the user instead."""

_LOOK = 0.25  # seconds between two looks at whether anybody still waits
_PIECE = 2**24  # bytes hashed between two looks


@dataclass(frozen=True)
class RemoteFile:
    """A file as the hub lists it.

    digest: SHA-256 of a large file, git's SHA-1 of a small one, in hex; its name in the cache.
    """

    name: str
    url: str
    size: int
    digest: str


class DamagedError(Exception):
    """What arrived is not what the hub lists."""


def download(file: RemoteFile, blobs: Path, lock: Path, transfer: Transfer) -> None:
    """Put the file into the folder `blobs`, unless it is there; one process at a time.

    Raises DamagedError for other content than listed, after removing it, and what the connection
    and the disk raise; what has arrived by then is kept for the next time.
    """
    blob = blobs / file.digest
    part = partial(file, blobs)
    with _alone(lock, transfer):
        if blob.exists():
            transfer.skip(file.size)
            return
        blobs.mkdir(parents=True, exist_ok=True)
        transfer.skip(_size(part))
        seen = _size(part)

        def grew() -> bool:
            nonlocal seen
            before, seen = seen, _size(part)
            return seen > before

        if seen < file.size:
            patiently(lambda: _stream(file, part, transfer), transfer, grew)
        if not _is_whole(file, part, transfer):
            part.unlink()
            raise DamagedError(file.name)
        part.replace(blob)


def partial(file: RemoteFile, blobs: Path) -> Path:
    """Where an unfinished download of the file waits."""
    return blobs / f"{file.digest}.turbo_kv.incomplete"


def patiently(
    ask: Callable[[], Answer],
    transfer: Transfer,
    grew: Callable[[], bool] = lambda: False,
    attempts: int = ATTEMPTS,
) -> Answer:
    """What `ask` returns, asked again after a hiccup of the network or the hub.

    `grew` tells whether the last attempt brought anything; `attempts` counts those in a row that
    did not. Raises the last failure.
    """
    failures = 0
    while True:
        try:
            return ask()
        except HTTPError as error:
            failures = 1 if grew() else failures + 1
            pause = _pause_after(error, failures)
            if failures >= attempts or pause is None:
                raise
            end = time.monotonic() + pause
            while time.monotonic() < end:
                transfer.say("The connection failed; trying again")
                time.sleep(min(_LOOK, pause))


def _stream(file: RemoteFile, part: Path, transfer: Transfer) -> None:
    have = _size(part)
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with get_session().stream(
        "GET",
        file.url,
        headers=headers,
        timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
        follow_redirects=True,
    ) as response:
        if have and response.status_code in (200, 416):  # no ranges here, or a shorter file
            transfer.skip(-have)
            part.unlink()
            have = 0
            if response.status_code == 416:
                part.touch()
                return
        hf_raise_for_status(response)
        with part.open("ab") as arrived:
            for piece in response.iter_raw():
                arrived.write(piece)
                transfer.add(len(piece))
                have += len(piece)
                if have > file.size:
                    return


def _is_whole(file: RemoteFile, part: Path, transfer: Transfer) -> bool:
    if _size(part) != file.size:
        return False
    is_large = len(file.digest) == hashlib.sha256().digest_size * 2
    found = hashlib.sha256() if is_large else hashlib.sha1(b"blob %d\0" % file.size)
    with part.open("rb") as content:
        while piece := content.read(_PIECE):
            found.update(piece)
            transfer.say(f"Verifying {file.name}")
    return found.hexdigest() == file.digest


@contextmanager
def _alone(lock: Path, transfer: Transfer) -> Iterator[None]:
    """Hold the lock that the hub's own client takes for this file, too."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    while True:
        holding = WeakFileLock(lock, timeout=_LOOK)
        try:
            holding.__enter__()
        except TimeoutError:
            transfer.say("Waiting for another process that downloads the same file")
        else:
            break
    try:
        yield
    finally:
        holding.__exit__(None, None, None)


def _pause_after(error: HTTPError, failures: int) -> float | None:
    """Seconds to wait, None when asking again is useless."""
    response = getattr(error, "response", None)  # a broken connection has none
    asked = ""
    if response is not None:
        if response.status_code not in (408, 429) and response.status_code < 500:
            return None
        asked = response.headers.get("Retry-After", "")
    pause = float(asked) if asked.isdecimal() else PAUSE * 2 ** (failures - 1)
    return pause if pause <= LONGEST_PAUSE else None


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
