"""The lessons, the pointer and the pin in headless Chromium, on the bundled model."""

import re
from contextlib import suppress

import pytest
from browser import PHONE, SIZES, SLOW, violations
from playwright.sync_api import Page, expect

from turbo_kv.ui.lessons.order import LESSONS

WIDE, _ = SIZES


def answer(page: Page, choice: int = 0) -> None:
    """Choose an answer, again where a redraw on its way took the click."""
    chart = page.locator("#lesson-figure .chart").first
    for _ in range(4):
        page.locator("#predict input").nth(choice).click()
        with suppress(AssertionError):
            expect(chart).to_be_visible(timeout=5000)
            return
    expect(chart).to_be_visible(timeout=SLOW)


def test_a_link_opens_its_lesson_and_every_lesson_answers(visit):
    page = visit("/?lesson=4&layer=3&head=4")
    expect(page.locator("#lesson h2")).to_contain_text(f"4. {LESSONS[3].title}", timeout=SLOW)
    expect(page.locator("#lesson")).to_contain_text("layer 3, query head 4", timeout=SLOW)
    for number, lesson in enumerate(LESSONS, start=1):
        page.locator("#steps button").nth(number - 1).click()
        expect(page.locator("#lesson h2")).to_contain_text(f"{number}. {lesson.title}")
        expect(page.locator("#steps [aria-current=step]")).to_contain_text(lesson.name)
        expect(page.locator("#lesson-figure")).to_contain_text("Answer first")
        answer(page)
        expect(page.locator("#check")).to_contain_text("Measured: ")
        finding = page.locator("#lesson-finding .finding").inner_text()
        alt = page.locator("#lesson-figure [role=img]").first.get_attribute("aria-label")
        assert alt == finding
        page.locator("#turn input").last.check()
        expect(page.locator("#lesson-finding .finding")).not_to_have_text(finding)


def test_a_link_to_no_lesson_opens_the_page_as_ever(visit):
    page = visit("/?lesson=seven&model=x")
    expect(page.get_by_role("tab", name="Run")).to_have_attribute("aria-selected", "true")


def test_the_keyboard_walks_through_the_lessons_and_the_address_follows(visit):
    page = visit()
    page.get_by_role("tab", name="Learn").click()
    expect(page).to_have_url(re.compile("lesson=1"), timeout=SLOW)
    page.locator("#steps button").first.focus()
    for key in ("Tab", "Enter"):
        page.keyboard.press(key)
    expect(page.locator("#lesson h2")).to_contain_text("2. ")
    expect(page).to_have_url(re.compile("lesson=2"))
    expect(page.locator("#steps button").nth(1)).to_be_focused()
    page.locator("#predict input").nth(2).focus()
    page.keyboard.press("Space")
    expect(page.locator("#check")).to_contain_text("Measured: ")
    page.locator("#lesson-figure summary").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#lesson-figure table")).to_be_visible()
    page.locator("#next").press("Enter")
    expect(page.locator("#lesson h2")).to_contain_text("3. ")
    page.get_by_role("tab", name="Run").click()
    expect(page).not_to_have_url(re.compile("lesson="))
    expect(page.get_by_role("tab", name="Learn")).to_have_count(1)


def test_the_lessons_follow_the_head_and_the_run(visit):
    page = visit()
    page.locator('#attention-grid [data-layer="3"][data-head="4"]').click()
    expect(page.locator("#maps")).to_contain_text("Attention of layer 3, head 4", timeout=SLOW)
    page.get_by_role("tab", name="Learn").click()
    expect(page.locator("#lesson")).to_contain_text("layer 3, query head 4", timeout=SLOW)
    page.locator("#steps button").nth(1).click()
    answer(page)
    page.locator("#context input").fill("64")
    page.locator("#run").click()
    expect(page.locator("#status")).to_contain_text("Done · run 1", timeout=SLOW)
    expect(page.locator("#lesson")).to_contain_text("64 tokens of Python", timeout=SLOW)


def test_a_run_behind_a_linked_lesson_is_whole_when_its_tab_opens(visit):
    page = visit("/?lesson=2")
    answer(page)
    page.locator("#bits").get_by_label("4").check()
    expect(page.locator("#status")).to_contain_text("Done · run 1", timeout=SLOW)
    page.get_by_role("tab", name="Run").click()
    expect(page.locator("#pin")).to_have_text("Pin this result")
    expect(page.locator("#maps img")).to_have_count(3)
    expect(page.locator("#key-grid [role=gridcell]")).to_have_count(24)


@pytest.mark.parametrize(
    ("size", "theme", "lesson"),
    [(WIDE, "light", 2), (WIDE, "dark", 4), (PHONE, "light", 5), (PHONE, "dark", 3)],
    ids=["wide light", "wide dark", "phone light", "phone dark"],
)
def test_lessons_fit_and_are_accessible_at_every_size_and_theme(visit, page, size, theme, lesson):
    page.set_viewport_size(size)
    visit(f"/?__theme={theme}&lesson={lesson}")
    expect(page.locator("#lesson h2")).to_contain_text(f"{lesson}. ", timeout=SLOW)
    answer(page)
    page.locator("#lesson-figure summary").click()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert violations(page) == []


def test_the_pointer_says_token_and_weight_in_all_three_maps(visit):
    page = visit()
    readout = page.locator("#maps .map-readout")
    page.locator("#maps img").nth(1).hover(position={"x": 5, "y": 200})
    expect(readout).to_have_text(
        re.compile(r"Query 1,\d{3} “.+”, key 1,\d{3} “.+”: original [\d.]+, packed [\d.]+\.")
    )
    before = readout.inner_text()
    page.locator("#maps .maps").press("ArrowDown")
    expect(readout).not_to_have_text(before)
    for _ in range(20):
        page.keyboard.press("Shift+ArrowRight")
    expect(readout).to_contain_text("still to come for this query")


def test_a_pinned_result_stays_beside_the_next_one(visit):
    page = visit()
    page.locator("#pin").click()
    expect(page.locator("#pinned")).to_contain_text("This is the result shown")
    page.locator("#bits").get_by_label("4").check()
    expect(page.locator("#pinned .finding")).to_contain_text("times closer", timeout=SLOW)
    expect(page.locator("#status")).to_contain_text("Done · run 1", timeout=SLOW)
    expect(page.locator("#pinned-key-grid [role=gridcell]")).to_have_count(24)
    assert violations(page) == []
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator("#unpin").click()
    expect(page.locator("#pinned-key-grid")).to_have_count(0)


def test_a_hostile_text_is_text_in_maps_and_lessons(visit):
    page = visit()
    page.locator("#source input").click()
    page.get_by_role("option", name="My own text").click()
    hostile = "<img src=x onerror=\"document.title='run'\"> ${document.title='run'} {{title}} "
    page.locator("#text textarea").fill(hostile * 10)
    page.locator("#context input").fill("128")
    page.locator("#run").click()
    expect(page.locator("#status")).to_contain_text("Done · run 1", timeout=SLOW)
    page.locator("#maps summary").click()
    page.locator("#maps .maps").press("ArrowDown")
    expect(page.locator(".map-readout")).to_contain_text("original")
    page.get_by_role("tab", name="Learn").click()
    page.locator("#steps button").last.click()
    answer(page)
    assert page.title() == "turbo_kv"
