"""What a visitor waits for: the page, a Run, a switch, a lesson, each until it is on the screen.

And what travels: the bytes of a Run, and every request to another server, of which there is none.
Timed in the browser, so that the server, the network between them and the drawing count. A Run
reads a text that the server has not captured; a switch asks for a setting not measured yet.
"""

from statistics import median
from typing import Any

from playwright.sync_api import Page

from turbo_kv.bench.page_traffic import Traffic
from turbo_kv.bench.served import Served, served
from turbo_kv.bench.serving import PATIENCE
from turbo_kv.bench.stamp import stamp
from turbo_kv.models.progress import Progress, silent

# A locator's own wait looks only every half second.
_TIMED = """([control, place, done]) => new Promise((resolve) => {
  const watched = document.querySelector(place), start = performance.now();
  const seen = new MutationObserver(() => {
    if (!watched.textContent.includes(done)) return;
    seen.disconnect();
    requestAnimationFrame(() => resolve(performance.now() - start));
  });
  seen.observe(watched, {subtree: true, childList: true, characterData: true});
  document.querySelector(control).click();
})"""

_MAPS = "new Blob([document.querySelector('#maps').innerHTML]).size"
"""Bytes of the attention maps on screen; on the way their quotes are escaped, which adds a few."""

TEXTS = ("Prose", "Standard library source", "Python language reference")
BITS = ("4", "2")
OPENINGS = 3
READING = 200  # milliseconds between what arrives and the next click: nobody is quicker


def page_times(progress: Progress = silent) -> dict[str, Any]:
    """Seconds to serve, to run each built-in text and to switch bits after it; stamped.

    The first figure is timed with the server at rest and, cold, while it imports torch. A run's
    bytes come with the attention maps; what the maps take of them, as HTML, is told beside.
    """
    runs, switches, sent, maps = [], [], [], []
    with served() as app:
        page = app.browser.new_page(viewport={"width": 1280, "height": 900})
        traffic = Traffic(page, app.url)
        cold = _first_figure(page, app.url)
        page.locator("#run").wait_for(state="visible", timeout=1000 * PATIENCE)
        progress(0, "Waiting until the server has imported torch: a first switch")
        _seconds(page, '#bits input[value="4"]', 1)
        warm = [_another_first_figure(app) for _ in range(OPENINGS)]
        done = 1
        for index, text in enumerate(TEXTS):
            progress(index / len(TEXTS), f"Reading {text}")
            page.locator("#source input").click()
            page.get_by_role("option", name=text).click()
            page.locator('#bits input[value="3"]').click()
            _wait(page, done := done + 1)
            page.wait_for_timeout(READING)
            traffic.taken()
            runs.append(_seconds(page, "#run", done := done + 1))
            page.wait_for_timeout(READING)
            sent.append(traffic.taken())
            maps.append(page.evaluate(_MAPS))
            for bits in BITS:
                page.wait_for_timeout(READING)
                switches.append(_seconds(page, f'#bits input[value="{bits}"]', done := done + 1))
        lessons, outside = _lessons(app)
        outside += traffic.outside
    return {
        "stamp": stamp(),
        "serve_seconds": app.seconds,
        "first_figure_seconds": median(warm),
        "first_figure_cold_seconds": cold,
        "run_seconds": median(runs),
        "switch_seconds": median(switches),
        "lesson_seconds": max(max(steps) for steps in lessons.values()),
        "lessons": lessons,
        "runs": runs,
        "switches": switches,
        "run_bytes": sent,
        "map_bytes": maps,
        "run_bytes_without_maps": max(run - drawn for run, drawn in zip(sent, maps)),
        "outside_requests": len(outside),
    }


def _first_figure(page: Page, url: str) -> float:
    """From the page's opening to the frame in which its first finding stands there."""
    page.goto(url, wait_until="commit")
    there = "document.querySelector('#verdict table')?.offsetHeight && performance.now()"
    return page.wait_for_function(there, polling="raf", timeout=1000 * PATIENCE).json_value() / 1000


def _another_first_figure(app: Served) -> float:
    """The same for a visitor whose browser has nothing of the page yet."""
    page = app.browser.new_page(viewport={"width": 1280, "height": 900})
    seconds = _first_figure(page, app.url)
    page.close()
    return seconds


def _seconds(page: Page, control: str, number: int) -> float:
    """From the click to the frame that shows the run done, by the browser's own clock."""
    return page.evaluate(_TIMED, [control, "#status", _done(number)]) / 1000


def _lessons(app: Served) -> tuple[dict[str, list[float]], list[str]]:
    """Seconds until each of the six lessons is open, its figure there, and drawn another way.

    Beside them the requests to other servers.
    """
    page = app.browser.new_page(viewport={"width": 1280, "height": 900})
    traffic = Traffic(page, app.url)
    page.goto(f"{app.url}/?lesson=1", wait_until="domcontentloaded")
    page.locator("#lesson h2", has_text="1. ").wait_for(timeout=1000 * PATIENCE)
    taken: dict[str, list[float]] = {"open": [], "figure": [], "control": []}
    for number in (2, 3, 4, 5, 6, 1):
        for kind, control, place, done in (
            ("open", f'#steps [data-step="{number - 1}"]', "#lesson", f"{number}. "),
            ("figure", "#predict label:last-child input", "#lesson-figure", "Show as table"),
            ("control", "#turn label:last-child input", "#lesson-figure", ""),
        ):
            taken[kind].append(page.evaluate(_TIMED, [control, place, done]) / 1000)
            page.wait_for_timeout(READING)
    page.close()
    return taken, traffic.outside


def _wait(page: Page, number: int) -> None:
    """Until the status says that run `number` of this visit is done."""
    page.locator("#status", has_text=_done(number)).wait_for(timeout=1000 * PATIENCE)


def _done(number: int) -> str:
    return f"Done · run {number} "
