"""Fixtures of the browser tests: Chromium, the app it opens, and what every visit must hold.

A missing browser fails; nothing here skips. After every visit no request has left the machine and
the page has raised no error.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TextIO
from urllib.request import urlopen

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

ROOT = Path(__file__).parents[2]
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
SLOW = 120_000  # milliseconds: a shared machine may still be importing torch
PHONE = {"width": 390, "height": 844}
SIZES = ({"width": 1280, "height": 900}, PHONE)
GRADIOS_OWN = {"image-redundant-alt", "nested-interactive", "aria-prohibited-attr"}


@pytest.fixture(scope="session")
def browser_type_launch_args():
    assert shutil.which(CHROMIUM), f"no browser at {CHROMIUM}: install chromium or set CHROMIUM"
    return {
        "executable_path": CHROMIUM,
        "args": [
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
        ],
    }


@pytest.fixture(scope="session")
def app_url(tmp_path_factory):
    """`python app.py` on a free port, with no hub and no cache of one."""
    home = tmp_path_factory.mktemp("home")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_SSR_MODE": "False",
        "GRADIO_TEMP_DIR": str(home),
        "HF_HOME": str(home),
        "HF_ENDPOINT": "http://127.0.0.1:9",
    }
    with (home / "log").open("w+") as log:
        app = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_until_served(app, url, log)
            yield url
        finally:
            app.terminate()
            app.wait(30)


def _wait_until_served(app: subprocess.Popen, url: str, log: TextIO) -> None:
    end = time.monotonic() + SLOW / 1000
    while time.monotonic() < end and app.poll() is None:
        try:
            urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    log.seek(0)
    pytest.fail(f"app.py does not serve its page:\n{log.read()}")


@pytest.fixture
def visit(page: Page, app_url: str):
    """Opens the page; afterwards nothing has left the machine and no script has failed."""
    leaks, errors = [], []

    def gate(route):
        url = route.request.url
        if url.startswith((app_url, "data:", "blob:")):
            route.continue_()
        else:
            leaks.append(url)
            route.abort()

    def opened(query: str = "") -> Page:
        page.goto(app_url + query, wait_until="domcontentloaded")
        page.locator("#run").wait_for(state="visible", timeout=SLOW)
        return page

    page.route("**/*", gate)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    assert leaks == []
    assert errors == []


def violations(page: Page) -> list[str]:
    """What axe finds serious, without what Gradio's own components bring along."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:200]}"
        for one in found
        if one["impact"] in ("serious", "critical") and one["id"] not in GRADIOS_OWN
    ]
