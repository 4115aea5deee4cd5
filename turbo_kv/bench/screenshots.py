"""Makes the README's pictures: the page at desktop and phone width, light and dark.

Starts the app as a visitor would, waits for its first paint, and photographs it. Knows the page's
address and the element that says it is there, nothing else.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from playwright.sync_api import Browser, sync_playwright

from turbo_kv.models.progress import Progress, silent

APP = Path(__file__).parents[2] / "app.py"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}
THEMES = ("light", "dark")
PATIENCE = 120  # seconds
WHOLE_PAGE = "page"


def screenshots(folder: Path, progress: Progress = silent) -> list[Path]:
    """Write a PNG per width and theme of the first screen, and of the whole page at 1280 light.

    Raises TimeoutError when the app does not serve its page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    with _served() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width in WIDTHS:
            for theme in THEMES:
                progress(len(made) / 5, f"Photographing {width}, {theme}")
                made.append(_photograph(browser, url, width, theme, folder))
        made.append(_photograph(browser, url, "desktop", "light", folder, whole=True))
        browser.close()
    return made


def _photograph(
    browser: Browser, url: str, width: str, theme: str, folder: Path, *, whole: bool = False
) -> Path:
    size = dict(zip(("width", "height"), WIDTHS[width]))
    page = browser.new_page(viewport=size)
    page.goto(f"{url}/?__theme={theme}", wait_until="domcontentloaded")
    page.locator("#run").wait_for(state="visible", timeout=1000 * PATIENCE)
    page.wait_for_function("document.fonts.ready")
    path = folder / f"{WHOLE_PAGE if whole else width}-{theme}.png"
    page.screenshot(path=path, full_page=whole, animations="disabled")
    page.close()
    return path


@contextmanager
def _served() -> Iterator[str]:
    """The app on a free port of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = os.environ | {"GRADIO_SERVER_PORT": str(port), "GRADIO_SSR_MODE": "False"}
    app = subprocess.Popen([sys.executable, str(APP)], env=environment, stdout=subprocess.DEVNULL)
    try:
        _wait(url, app)
        yield url
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
            time.sleep(0.2)
    raise TimeoutError(f"{APP} does not serve its page at {url}")
