"""Makes the project's pictures: the first screen at every width and theme, each tab, the preview.

Photographs what a visitor finds before pressing anything. Knows which element says that the page is
there; the tabs it finds by itself.
"""

from pathlib import Path

from playwright.sync_api import Page

from turbo_kv.bench.served import Served, served
from turbo_kv.bench.serving import PATIENCE
from turbo_kv.models.progress import Progress, silent

SIZES = {"desktop": (1280, 900), "phone": (390, 844), "preview": (1200, 630)}
FIRST = [("desktop", "light"), ("desktop", "dark"), ("phone", "light"), ("phone", "dark")]
TABS = [("desktop", "light"), ("phone", "dark")]
STILL = {"animations": "disabled"}


def screenshots(folder: Path, progress: Progress = silent) -> list[Path]:
    """Write the PNGs: first screens, every tab light on a desktop and dark on a phone, a preview.

    The preview is 1200 by 630, the size in which pages are shared.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    with served() as app:
        for size, theme in FIRST:
            progress(len(made) / 15, f"Photographing {size}, {theme}")
            page = _opened(app, size, theme)
            made.append(folder / f"{size}-{theme}.png")
            page.screenshot(path=made[-1], **STILL)
            if (size, theme) in TABS:
                made += _tabs(page, folder, f"{size}-{theme}")
            page.close()
        page = _opened(app, "preview", "light")
        page.evaluate("document.documentElement.style.zoom = 0.8")
        made.append(folder / "preview.png")
        page.screenshot(path=made[-1], **STILL)
        page.close()
    return made


def _tabs(page: Page, folder: Path, kind: str) -> list[Path]:
    """One picture of each tab, from its top to its end."""
    made = []
    for tab in page.get_by_role("tab").all():
        tab.click()
        page.wait_for_function("document.fonts.ready")
        name = tab.inner_text().strip().lower()
        if name == "learn":  # a lesson shows its figure with the answer
            page.locator("#predict").get_by_label("Show me").check()
        page.locator("#tabs .finding:visible").first.wait_for(timeout=1000 * PATIENCE)
        made.append(folder / f"{name}-{kind}.png")
        page.locator("#tabs").screenshot(path=made[-1], **STILL)
    return made


def _opened(app: Served, size: str, theme: str) -> Page:
    page = app.browser.new_page(viewport=dict(zip(("width", "height"), SIZES[size])))
    page.goto(f"{app.url}/?__theme={theme}", wait_until="domcontentloaded")
    page.locator("#run").wait_for(state="visible", timeout=1000 * PATIENCE)
    page.wait_for_function("document.fonts.ready")
    return page
