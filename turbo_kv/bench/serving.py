"""The app as its own process, started with `python app.py` on a free port of this machine.

Knows how to start and stop it, and nothing of what it serves.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

APP = Path(__file__).parents[2] / "app.py"
PATIENCE = 180  # seconds


@dataclass(frozen=True)
class Server:
    """A running app, and the seconds from start to first answer."""

    url: str
    process: subprocess.Popen
    seconds: float


@contextmanager
def serving(**settings: str) -> Iterator[Server]:
    """The app, with these environment variables, for as long as the block lasts.

    Raises TimeoutError when it does not serve its page.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = os.environ | {"GRADIO_SERVER_PORT": str(port), "GRADIO_SSR_MODE": "False"}
    start = time.perf_counter()
    app = subprocess.Popen(
        [sys.executable, str(APP)],
        env=environment | settings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL if settings else None,
    )
    try:
        _wait(url, app)
        yield Server(url, app, time.perf_counter() - start)
    finally:
        app.terminate()
        app.wait()


def _wait(url: str, app: subprocess.Popen) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and app.poll() is None:
        try:
            urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(f"{APP} does not serve its page at {url}")
