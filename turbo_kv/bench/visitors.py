"""Three strangers' ways through the page, from its opening to what they came for.

Each way is a generator: it does what a visitor would and yields a step's name once what that step
leads to is on the screen. The tests look there; `bench screenshots` takes its pictures there.
"""

from collections.abc import Callable, Iterator

from playwright.sync_api import Page

from turbo_kv.bench.serving import PATIENCE
from turbo_kv.measure.prompts import EXAMPLES

LESSONS = 6
TEXT = "\n\n".join(EXAMPLES.values())
"""Somebody's own text, which no built-in one contains."""

MEMORY = "16"
"""GiB of the device of who decides."""


def deciding(page: Page, url: str) -> Iterator[str]:
    """Is 3-bit KV for me? Own text, centring off and on again, own device, a report to keep."""
    yield from _opened(page, url)
    page.locator("#source input").click()
    page.get_by_role("option", name="My own text").click()
    page.locator("#text textarea").fill(TEXT)
    page.locator("#run").click()
    _said(page, "#status", "Done · run 1")
    yield "measured"
    page.locator("#centering").get_by_label("off").check()
    _said(page, "#status", "Done · run 2")
    yield "broken"
    page.locator("#centering").get_by_label("mean").check()
    _said(page, "#status", "Done · run 3")
    yield "repaired"
    page.get_by_role("tab", name="Plan").click()
    page.locator("#plan-memory input").fill(MEMORY)
    _said(page, "#plan-finding", f"in {MEMORY} GiB")
    yield "planned"
    page.get_by_role("tab", name="Run").click()
    page.locator("#export [data-file='report.html']").click()
    _said(page, "#export", "Saved turbo_kv-report.html")
    yield "exported"


def glancing(page: Page, url: str) -> Iterator[str]:
    """One minute: what is there at once, one lesson, one text continued twice."""
    yield from _opened(page, url)
    page.get_by_role("tab", name="Learn").click()
    page.locator("#predict input").nth(1).click()
    _said(page, "#check", "Measured: ")
    yield "learned"
    page.get_by_role("tab", name="Generate").click()
    page.locator("#generate").click()
    _said(page, "#generate-status", "Done ·")
    yield "generated"


def teaching(page: Page, url: str) -> Iterator[str]:
    """A class: from a link through every lesson, by the keyboard alone, then a result pinned."""
    page.goto(f"{url}?lesson=1", wait_until="domcontentloaded")
    for number in range(1, LESSONS + 1):
        _said(page, "#lesson h2", f"{number}. ")
        page.locator("#predict input").first.focus()
        page.keyboard.press("Space")
        _said(page, "#check", "Measured: ")
        yield f"lesson-{number}"
        if number < LESSONS:
            page.locator("#next").press("Enter")
    page.get_by_role("tab", name="Learn").press("Home")
    page.locator("#pin").press("Enter")
    _said(page, "#pinned", "This is the result shown")
    yield "pinned"


WAYS: dict[str, Callable[[Page, str], Iterator[str]]] = {
    way.__name__: way for way in (deciding, glancing, teaching)
}


def _opened(page: Page, url: str) -> Iterator[str]:
    page.goto(url, wait_until="domcontentloaded")
    page.locator("#run").wait_for(state="visible", timeout=1000 * PATIENCE)
    page.locator("#verdict table").wait_for(timeout=1000 * PATIENCE)
    yield "opened"


def _said(page: Page, place: str, words: str) -> None:
    """Until a place says these words."""
    page.locator(place, has_text=words).first.wait_for(timeout=1000 * PATIENCE)
