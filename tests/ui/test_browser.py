"""The real page in headless Chromium, from first paint to a bad input, on the bundled model."""

import re

import pytest
from browser import PHONE, SIZES, SLOW, violations
from playwright.sync_api import Page, expect

from turbo_kv.ui import limits


def done(page: Page, number: int) -> None:
    expect(page.locator("#status")).to_contain_text(f"Done · run {number}", timeout=SLOW)


def own_text(page: Page, text: str) -> None:
    page.locator("#source input").click()
    page.get_by_role("option", name=limits.OWN_TEXT).click()
    page.locator("#text textarea").fill(text)


def cell(page: Page, grid: str, layer: int, head: int):
    return page.locator(f'#{grid} [data-layer="{layer}"][data-head="{head}"]')


def test_the_finding_is_on_screen_before_any_click(visit):
    page = visit()
    verdict = page.locator("#verdict")
    expect(verdict).to_contain_text("Plain 3-bit codes break this model. Centring repairs it.")
    expect(verdict).to_contain_text("looks fine both times")
    expect(page.locator("#headline")).to_contain_text("2,048 tokens")
    expect(page.locator("#maps img")).to_have_count(3)
    for picture in page.locator("#maps img").all():
        assert picture.evaluate("image => image.naturalWidth") == 256
        assert "attention of layer" in picture.get_attribute("alt")
    assert verdict.bounding_box()["y"] < 300


def test_a_switch_breaks_the_model_and_mends_it_without_a_run(visit):
    page = visit()
    page.locator("#centering").get_by_label("off").check()
    expect(page.locator("#verdict")).to_contain_text("Without centring, the same 3-bit codes")
    done(page, 1)
    page.locator("#centering").get_by_label("mean").check()
    expect(page.locator("#verdict")).to_contain_text("Centring repairs it.")
    done(page, 2)
    assert "without reading again" in page.locator("#status").inner_text()


def test_run_measures_the_bundled_model_and_a_switch_does_not_read_again(visit):
    page = visit()
    page.locator("#run").click()
    expect(page.locator("#stop")).to_be_enabled()
    done(page, 1)
    expect(page.locator("#headline")).to_contain_text("Measured here · tiny")
    expect(page.locator("#run")).to_be_enabled()
    expect(page.locator("#key-grid [role=gridcell]:not(.pending)")).to_have_count(24)
    page.locator("#bits").get_by_label("4").check()
    done(page, 2)
    expect(page.locator("#verdict")).to_contain_text("Bits 3 → 4: attention comes")
    expect(page.locator("#headline")).to_contain_text("4.26 bits per value")


def test_a_click_and_the_keyboard_open_a_head(visit):
    page = visit()
    cell(page, "attention-grid", 3, 4).click()
    expect(page.locator("#maps")).to_contain_text("Attention of layer 3, head 4", timeout=SLOW)
    expect(cell(page, "attention-grid", 3, 4)).to_have_attribute("aria-selected", "true")
    expect(cell(page, "key-grid", 3, 1)).to_have_attribute("aria-selected", "true")

    cell(page, "key-grid", 3, 1).focus()
    for key in ("ArrowLeft", "ArrowUp"):
        page.keyboard.press(key)
    expect(cell(page, "key-grid", 2, 0)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#maps h3")).to_contain_text(
        re.compile("layer 2, head [012]"), timeout=SLOW
    )
    expect(page.locator("#key-grid [tabindex='0']")).to_have_count(1)


def test_stop_ends_a_run_and_keeps_the_result(visit):
    page = visit()
    before = page.locator("#headline .headline").inner_text()
    page.locator("#context input").fill("8192")
    page.locator("#run").click()
    page.locator("#stop:not([disabled])").click(timeout=SLOW)
    expect(page.locator("#status")).to_contain_text("Stopped", timeout=SLOW)
    expect(page.locator("#run")).to_be_enabled()
    expect(page.locator("#verdict")).to_contain_text("previous run")
    assert page.locator("#headline .headline").inner_text() == before
    expect(page.locator(".heat .pending")).to_have_count(0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Your text is empty"),
        ("  \n\t ", "Your text is empty"),
        ("Hi", "a measurement needs at least 16"),
        ("\x07\x1b", "Your text is empty"),
        ("😀", "a measurement needs at least 16"),
        ("x" * 1_000_001, "1,000,001 bytes"),
    ],
    ids=["empty", "blank", "one token", "control", "emoji", "1 MB"],
)
def test_a_text_that_cannot_be_measured_is_said_at_the_field(visit, text, said):
    page = visit()
    before = page.locator("#headline .headline").inner_text()
    own_text(page, text)
    page.locator("#run").click()
    expect(page.locator("#text-message [role=alert]")).to_contain_text(said, timeout=SLOW)
    expect(page.locator("#run")).to_be_enabled()
    assert page.locator("#headline .headline").inner_text() == before


def test_a_context_beyond_the_model_is_said_at_the_field(visit):
    page = visit()
    page.locator("#context input").fill("999999")
    page.locator("#run").click()
    expect(page.locator("#context-message")).to_contain_text("16 to 8,192", timeout=SLOW)


def test_a_model_that_is_not_here_is_said_at_the_field(visit):
    page = visit()
    page.locator("#model input").click()
    page.get_by_role("option", name="Qwen2.5-0.5B", exact=True).click()
    page.locator("#run").click()
    message = page.locator("#model-message [role=alert]")
    expect(message).to_contain_text("not in the cache", timeout=SLOW)
    expect(message).to_contain_text("choose the bundled model 'tiny'")


def test_markup_and_templates_in_a_prompt_stay_text(visit):
    page = visit()
    hostile = "<img src=x onerror=\"document.title='run'\"> ${document.title='run'} {{7*7}} 🙂 "
    own_text(page, hostile * 20)
    page.locator("#context input").fill("64")
    page.locator("#run").click()
    done(page, 1)
    expect(page.locator("#headline")).to_contain_text("64 tokens of your text")
    expect(page.locator("#text-message [role=note]")).to_contain_text("measured on the first 64")
    assert page.title() == "turbo_kv"


def test_an_uploaded_text_is_shown_and_measured(visit, tmp_path):
    file = tmp_path / "story.txt"
    file.write_text("It was a dark and stormy night. " * 20)
    page = visit()
    page.locator("input[type=file]").first.set_input_files(file)
    expect(page.locator("#text textarea")).to_have_value(file.read_text())
    page.locator("#run").click()
    done(page, 1)
    expect(page.locator("#headline")).to_contain_text("tokens of your text")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES, ids=["wide", "phone"])
def test_every_size_and_theme_fits_and_is_accessible(visit, page, theme, size):
    page.set_viewport_size(size)
    visit(f"/?__theme={theme}")
    page.get_by_role("button", name="Claimed and measured").click()
    expect(page.locator("#measured table")).to_contain_text("448 MB → 91 MB")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert violations(page) == []


def test_a_phone_reads_the_finding_first(visit, page):
    page.set_viewport_size(PHONE)
    visit()
    title = page.locator("#verdict h2").bounding_box()
    assert title["y"] + title["height"] < PHONE["height"] / 2
    assert page.locator("#run").bounding_box()["y"] > title["y"]
