"""Tab Generate in headless Chromium, on the bundled model."""

import re

import pytest
from browser import PHONE, SIZES, SLOW, violations
from playwright.sync_api import Page, expect


@pytest.fixture
def opened(visit):
    """Opens the page at the tab, with as many new tokens as a test needs."""

    def open_tab(query: str = "", new_tokens: int | None = None) -> Page:
        page = visit(query)
        page.get_by_role("tab", name="Generate").click()
        page.locator("#generate").wait_for(state="visible", timeout=SLOW)
        if new_tokens is not None:
            page.locator("#new-tokens input[type=number]").fill(str(new_tokens))
            page.locator("#new-tokens input[type=number]").press("Tab")
        return page

    return open_tab


def write(page: Page, prompt: str) -> None:
    page.locator("#prompt textarea").fill(prompt)


def begun(page: Page) -> None:
    expect(page.locator("#generation")).to_contain_text("Generated here", timeout=SLOW)


def done(page: Page) -> None:
    expect(page.locator("#generate-status")).to_contain_text("Done ·", timeout=SLOW)


def test_a_labelled_sample_is_there_before_any_click(opened):
    page = opened()
    expect(page.locator("#parting")).to_have_text(re.compile("Same for"))
    expect(page.locator("#generation")).to_contain_text("Saved sample of 20")
    expect(page.locator("#generate-status")).to_contain_text("generated beforehand")
    for stream in ("exact", "packed"):
        expect(page.locator(f"#{stream}-stream .said")).to_contain_text("was seen")
        expect(page.locator(f"#{stream}-stream dl")).to_contain_text("MiB")


def test_streams_grow_part_and_say_where(opened):
    page = opened(new_tokens=24)
    page.locator("#centering").get_by_label("off").check()
    page.locator("#bits").get_by_label("2").check()
    page.locator("#generate").click()
    done(page)
    finding = page.locator("#parting").inner_text()
    assert re.fullmatch(
        r"Same for \d+ tokens?, then .+ in full precision against .+ packed\.", finding
    )
    expect(page.locator("#packed-stream h3")).to_contain_text("Bits 2, Centring off")
    expect(page.locator("#generation")).to_contain_text("Generated here · tiny")
    for stream in ("exact", "packed"):
        first = page.locator(f"#{stream}-stream mark").first
        expect(first.locator("i")).to_have_text("≠")
        assert first.locator("strong").inner_text().strip() in finding
        line = first.evaluate("mark => getComputedStyle(mark).textDecorationLine")
        assert line == "underline"
        expect(page.locator(f"#{stream}-stream h3")).to_contain_text("24 of 24 tokens")
    expect(page.locator("#generate")).to_be_enabled()
    expect(page.locator("#generate-stop")).to_be_disabled()


def test_the_finding_alone_is_announced(opened):
    page = opened()
    expect(page.locator("#parting [aria-live]")).to_have_attribute("aria-live", "polite")
    for stream in ("exact", "packed"):
        expect(page.locator(f"#{stream}-stream [aria-live]")).to_have_count(0)
    expect(page.locator("#generation [aria-live]")).to_have_count(0)


def test_stop_midway_keeps_what_was_said_and_another_run_starts(opened):
    page = opened(new_tokens=256)
    page.locator("#generate").click()
    begun(page)
    page.locator("#generate-stop").click()
    expect(page.locator("#generate-status")).to_contain_text("Stopped", timeout=SLOW)
    expect(page.locator("#packed-stream h3")).to_contain_text(re.compile(r"\b\d+ of 256 tokens"))
    expect(page.locator("#generate")).to_be_enabled()
    page.locator("#new-tokens input[type=number]").fill("3")
    page.locator("#new-tokens input[type=number]").press("Tab")
    page.locator("#generate").click()
    done(page)
    expect(page.locator("#packed-stream h3")).to_contain_text("3 of 3 tokens")


def test_two_visitors_wait_for_each_other_and_get_their_own(opened, context, app_url):
    first = opened(new_tokens=64)
    second = context.new_page()
    second.goto(app_url, wait_until="domcontentloaded")
    second.get_by_role("tab", name="Generate").click(timeout=SLOW)
    prompts = {first: "one two three, one two three, one two", second: "The sea is cold and the"}
    for page, prompt in prompts.items():
        write(page, prompt)
    first.locator("#generate").click()
    begun(first)
    second.locator("#generate").click()
    expect(second.locator("#generate-status")).to_contain_text("Waiting for the model")
    for page, prompt in prompts.items():
        done(page)
        for stream in ("exact", "packed"):
            expect(page.locator(f"#{stream}-stream .asked")).to_have_text(prompt)
    said = second.locator("#packed-stream .said").inner_text()
    second.locator("#new-tokens input[type=number]").fill("24")
    second.locator("#new-tokens input[type=number]").press("Tab")
    second.locator("#generate").click()
    expect(second.locator("#packed-stream h3")).to_contain_text("24 of 24", timeout=SLOW)
    assert said.startswith(second.locator("#packed-stream .said").inner_text())


def test_stop_leaves_the_queue(opened, context, app_url):
    first = opened(new_tokens=256)
    second = context.new_page()
    second.goto(app_url, wait_until="domcontentloaded")
    second.get_by_role("tab", name="Generate").click(timeout=SLOW)
    first.locator("#generate").click()
    begun(first)
    second.locator("#generate").click()
    expect(second.locator("#generate-status")).to_contain_text("Waiting for the model")
    for page in (second, first):
        page.locator("#generate-stop").click()
        expect(page.locator("#generate-status")).to_contain_text("Stopped", timeout=SLOW)
    first.locator("#new-tokens input[type=number]").fill("2")
    first.locator("#new-tokens input[type=number]").press("Tab")
    first.locator("#generate").click()
    done(first)
    expect(second.locator("#generation")).to_contain_text("Saved sample")


def test_an_example_fills_the_prompt(opened):
    page = opened(new_tokens=2)
    page.locator("#example input").click()
    page.get_by_role("option", name="A pattern").click()
    expect(page.locator("#prompt textarea")).to_have_value(re.compile("one two three"))
    page.locator("#generate").click()
    done(page)
    expect(page.locator("#exact-stream .said")).to_contain_text("one two three four")


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("", "Your prompt is empty"),
        (" \n ", "Your prompt is empty"),
        ("word " * 9_000, "positions of this model"),
    ],
    ids=["empty", "blank", "beyond the model"],
)
def test_a_prompt_that_cannot_be_continued_is_said_at_the_field(opened, prompt, said):
    page = opened()
    before = page.locator("#packed-stream").inner_text()
    write(page, prompt)
    page.locator("#generate").click()
    expect(page.locator("#prompt-message [role=alert]")).to_contain_text(said, timeout=SLOW)
    expect(page.locator("#generate")).to_be_enabled()
    assert page.locator("#packed-stream").inner_text() == before


def test_markup_templates_and_emoji_in_a_prompt_stay_text(opened):
    page = opened(new_tokens=2)
    hostile = "<img src=x onerror=\"document.title='run'\"> ${document.title='run'} {{7*7}} 🙂"
    write(page, hostile)
    page.locator("#generate").click()
    done(page)
    for stream in ("exact", "packed"):
        expect(page.locator(f"#{stream}-stream .asked")).to_have_text(hostile)
    assert page.locator("#streams img").count() == 0
    assert page.title() == "turbo_kv"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES, ids=["wide", "phone"])
def test_every_size_and_theme_fits_and_is_accessible(opened, page, theme, size):
    page.set_viewport_size(size)
    opened(f"/?__theme={theme}")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert violations(page) == []


def test_streams_stand_side_by_side_and_on_a_phone_below_each_other(opened, page):
    opened()
    exact, packed = (page.locator(f"#{s}-stream") for s in ("exact", "packed"))
    assert exact.bounding_box()["y"] == packed.bounding_box()["y"]
    page.set_viewport_size(PHONE)
    assert exact.bounding_box()["x"] == packed.bounding_box()["x"]
