"""The app as a visitor finds it: a running server, opened in headless Chromium.

Knows how to start and stop both, and nothing of what is on the page.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from playwright.sync_api import Browser, sync_playwright

from turbo_kv.bench.serving import serving

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")


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
    with serving() as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield Served(server.url, browser, server.seconds)
        browser.close()
