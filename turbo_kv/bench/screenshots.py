"""Makes the project's pictures: first screens, each tab, three strangers' ways, the preview.

First screens, tabs and the preview show what a visitor finds before pressing anything; a way shows
what it leads to. Knows which element says that the page is there; the tabs it finds by itself.
"""

from pathlib import Path

from playwright.sync_api import Page

from turbo_kv.bench.served import Served, served
from turbo_kv.bench.serving import PATIENCE
from turbo_kv.bench.visitors import WAYS
from turbo_kv.models.progress import Progress, silent

SIZES = {"desktop": (1280, 900), "phone": (390, 844), "preview": (1200, 630)}
FIRST = [("desktop", "light"), ("desktop", "dark"), ("phone", "light"), ("phone", "dark")]
TABS = [("desktop", "light"), ("phone", "dark")]
WALKED = [("desktop", "light"), ("desktop", "dark"), ("phone", "light")]
SEEN = {
    "broken": "#top",
    "planned": "#tabs",
    "learned": "#tabs",
    "generated": "#tabs",
    "lesson-4": "#tabs",
    "pinned": "#pinned",
}
"""The steps of the ways that are photographed, and what of the page is looked at there."""

CHINESE = {"locale": "zh-CN"}
STILL = {"animations": "disabled"}


def screenshots(folder: Path, progress: Progress = silent) -> list[Path]:
    """Write the PNGs; the preview is 1200 by 630, the size in which pages are shared.

    First screens, also of the page in Chinese; every tab light on a desktop and dark on a phone;
    what three strangers come to, light and dark on a desktop, and on a phone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    with served() as app:
        for size, theme in FIRST:
            progress(len(made) / 40, f"Photographing {size}, {theme}")
            page = _opened(app, size, theme)
            made.append(folder / f"{size}-{theme}.png")
            page.screenshot(path=made[-1], **STILL)
            if (size, theme) in TABS:
                made += _tabs(page, folder, f"{size}-{theme}")
            page.close()
        for size, theme in TABS:
            page = _opened(app, size, theme, **CHINESE)
            made.append(folder / f"chinese-{size}-{theme}.png")
            page.screenshot(path=made[-1], **STILL)
            page.close()
        for size, theme in WALKED:
            progress(len(made) / 40, f"Following three strangers, {size}, {theme}")
            made += _ways(app, folder, size, theme)
        made.append(_preview(app, folder))
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


def _ways(app: Served, folder: Path, size: str, theme: str) -> list[Path]:
    made = []
    for name, way in WAYS.items():
        page = _page(app, size, color_scheme=theme)
        for step in way(page, f"{app.url}/"):
            if step in SEEN:
                made.append(folder / f"{name}-{step}-{size}-{theme}.png")
                page.locator(SEEN[step]).screenshot(path=made[-1], **STILL)
        page.close()
    return made


def _preview(app: Served, folder: Path) -> Path:
    """The verdict on what was measured beforehand, as large as the picture."""
    page = _opened(app, "preview", "light")
    page.add_style_tag(content=_PREVIEW)
    made = folder / "preview.png"
    page.screenshot(path=made, **STILL)
    page.close()
    return made


_PREVIEW = """
#form, #status, #tabs, #measured, footer, .languages { display: none !important; }
.headline > p, .verdict thead small, .verdict tr:nth-child(n + 6) { display: none !important; }
.gradio-container { zoom: 1.1; }
.gradio-container main { padding-block: 0 !important; }
#headline { order: -1; }
"""
"""Leaves what can be read in a small picture: the claim, the headline's figures, the verdict."""


def _page(app: Served, size: str, **options: str) -> Page:
    return app.browser.new_page(viewport=dict(zip(("width", "height"), SIZES[size])), **options)


def _opened(app: Served, size: str, theme: str, **options: str) -> Page:
    page = _page(app, size, **options)
    page.goto(f"{app.url}/?__theme={theme}", wait_until="domcontentloaded")
    page.locator("#run").wait_for(state="visible", timeout=1000 * PATIENCE)
    page.wait_for_function("document.fonts.ready")
    return page
