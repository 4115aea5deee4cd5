"""The app as a visitor finds it: started with `python app.py`, opened in headless Chromium.

Knows how to start and stop both, and nothing of what is on the page.
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

from playwright.sync_api import Browser, sync_playwright

APP = Path(__file__).parents[2] / "app.py"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
PATIENCE = 180  # seconds


@dataclass(frozen=True)
class Served:
    """A running app, a browser to open it with, and the seconds from start to first answer."""

    url: str
    browser: Browser
    seconds: float


@contextmanager
def served() -> Iterator[Served]:
    """The app on a free port of this machine, for as long as the block lasts.

    Raises TimeoutError when it does not serve its page.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = os.environ | {"GRADIO_SERVER_PORT": str(port), "GRADIO_SSR_MODE": "False"}
    start = time.perf_counter()
    app = subprocess.Popen([sys.executable, str(APP)], env=environment, stdout=subprocess.DEVNULL)
    try:
        _wait(url, app)
        seconds = time.perf_counter() - start
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            yield Served(url, browser, seconds)
            browser.close()
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
