"""Makes the README's pictures: the page at desktop and phone width, light and dark.

Photographs the first paint, before any click. Knows which element says that the page is there.
"""

from pathlib import Path

from turbo_kv.bench.served import PATIENCE, Served, served
from turbo_kv.models.progress import Progress, silent

WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}
THEMES = ("light", "dark")


def screenshots(folder: Path, progress: Progress = silent) -> list[Path]:
    """Write a PNG of the first screen per width and theme, and the whole page at 1280, light."""
    folder.mkdir(parents=True, exist_ok=True)
    screens = [(width, theme) for width in WIDTHS for theme in THEMES]
    made = []
    with served() as app:
        for width, theme in screens:
            progress(len(made) / len(screens), f"Photographing {width}, {theme}")
            made.append(_photograph(app, width, theme, folder / f"{width}-{theme}.png"))
        whole = folder / "page-light.png"
        made.append(_photograph(app, "desktop", "light", whole, full_page=True))
    return made


def _photograph(app: Served, width: str, theme: str, path: Path, full_page: bool = False) -> Path:
    page = app.browser.new_page(viewport=dict(zip(("width", "height"), WIDTHS[width])))
    page.goto(f"{app.url}/?__theme={theme}", wait_until="domcontentloaded")
    page.locator("#run").wait_for(state="visible", timeout=1000 * PATIENCE)
    page.wait_for_function("document.fonts.ready")
    page.screenshot(path=path, full_page=full_page, animations="disabled")
    page.close()
    return path
