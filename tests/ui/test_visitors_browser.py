"""Three strangers' ways, start to finish, and the page in Chinese, in headless Chromium."""

import re
from pathlib import Path

import pytest
from browser import PHONE, SLOW, violations
from playwright.sync_api import Page, expect

from turbo_kv.bench.visitors import LESSONS, MEMORY, deciding, glancing, teaching
from turbo_kv.ui.language import say, speaking
from turbo_kv.ui.lessons.order import LESSONS as TAUGHT

HAN = re.compile("[\u4e00-\u9fff]")
FILE = re.compile(r"[\w-]+\.(?:json|csv|html|svg|png)|Qwen2\.5-[\w.-]+|[\d.]+\+cpu")
NAMES = {
    *("token", "nat", "logit", "softmax", "tiny", "trellis", "fast", "lloyd-max"),
    *("Lloyd", "Max", "Lloyd–Max", "Walsh–Hadamard", "float32", "PyTorch", "torch", "Python"),
    *("query-trellis", "cpu", "Qwen2.5", "turbo_kv", "English", "Shift", "cores", "hub", ".txt"),
}
"""What Chinese writing keeps as it is; sizes of Qwen2.5 and names of files beside it."""

GRADIOS = re.compile(
    "More tabs|Reset to default value|number input for|range slider for"
    r"|queue: \d+/\d* \||processing \|"  # unseen, over what is worked at
)
"""What Gradio itself reads out, in English everywhere."""

QUOTED = re.compile("“[^”]*”")
"""What a model said."""


def test_who_decides_measures_an_own_text_sees_it_break_plans_and_keeps_a_report(
    visit, app_url, page
):
    with page.expect_download(timeout=SLOW) as downloading:
        for step in deciding(page, app_url):
            verdict = page.locator("#verdict h2").inner_text()
            if step == "measured":
                expect(page.locator("#headline")).to_contain_text("tokens of your text")
            if step == "broken":
                assert "Without centring" in verdict
                expect(page.locator("#verdict .alarming").first).to_be_visible()
            if step == "repaired":
                assert "repairs it" in verdict
            if step == "planned":
                expect(page.locator("#plan-chart .plan-device")).to_have_text(f"{MEMORY} GiB")
    kept = Path(downloading.value.path()).read_text(encoding="utf-8")
    assert "Centring mean" in kept
    assert '<html lang="en">' in kept
    assert not re.search(r'(?:src|href)="https?:', kept)


def test_who_has_a_minute_sees_a_result_learns_and_generates(visit, app_url, page):
    for step in glancing(page, app_url):
        if step == "opened":
            expect(page.locator("#headline")).to_contain_text("Precomputed")
        if step == "learned":
            expect(page.locator("#lesson-figure .chart").first).to_be_visible()
        if step == "generated":
            expect(page.locator("#parting")).to_contain_text("Same for")


def test_who_teaches_walks_a_class_through_by_keyboard_and_pins(visit, app_url, page):
    lessons = [step for step in teaching(page, app_url) if step.startswith("lesson")]
    assert len(lessons) == LESSONS == len(TAUGHT)
    expect(page.locator("#unpin")).to_be_visible()
    page.get_by_role("tab", name="Learn").click()
    link = page.locator("#lesson h2 a").get_attribute("href")
    assert link.endswith(f"lesson={LESSONS}")
    page.goto(f"{app_url}/{link}", wait_until="domcontentloaded")
    expect(page.locator("#lesson h2")).to_contain_text(f"{LESSONS}. ", timeout=SLOW)


def test_a_switch_on_the_stored_reading_is_measured_here(visit):
    page = visit()
    expect(page.locator("#headline")).to_contain_text("Precomputed")
    page.locator("#bits").get_by_label("4").check()
    expect(page.locator("#headline")).to_contain_text("Measured here", timeout=SLOW)
    page.locator("#bits").get_by_label("3").check()
    expect(page.locator("#headline")).to_contain_text("Precomputed", timeout=SLOW)


def english(page: Page) -> list[str]:
    """Whatever is written or read out on the page in English words that are no names."""
    said = page.evaluate(
        """() => [document.body.innerText, ...['aria-label', 'alt', 'placeholder'].flatMap((name) =>
          [...document.querySelectorAll(`.tabs [${name}], #top [${name}]`)].map(
            (each) => each.closest('pre, .said, #prompt') ? '' : each.getAttribute(name)))
        ].join('\\n')"""
    )
    own = page.locator("pre, .said, #prompt, code, #as-link, .export button")
    known = {line.strip() for text in own.all_inner_texts() for line in text.split("\n")}
    for aside in (GRADIOS, QUOTED, re.compile(r"\?lang=\S+")):
        said = aside.sub("", said)
    words = [
        word for line in said.split("\n") if line.strip() not in known for word in spelled(line)
    ]
    return [word for word in words if word not in NAMES and not FILE.fullmatch(word)]


def spelled(line: str) -> list[str]:
    """The words of a line that have three small letters in a row."""
    return [
        word for word in re.findall(r"[A-Za-z_.][\w.+–-]*", line) if re.search("[a-z]{3}", word)
    ]


@pytest.fixture
def browser_context_args(browser_context_args, request):
    if "chinese" in request.node.name:
        return browser_context_args | {"locale": "zh-CN"}
    return browser_context_args


def test_a_chinese_browser_gets_a_chinese_page_and_english_by_a_link(visit, page):
    visit()
    expect(page).to_have_url(re.compile("/zh$"))
    expect(page.locator("html")).to_have_attribute("lang", "zh-Hans")
    left = english(page)
    for tab in page.locator("#tabs [role=tab]").all():
        tab.click()
        page.locator("#tabs .finding:visible, #predict").first.wait_for(timeout=SLOW)
        left += english(page)
    page.locator("#predict input").last.click()
    expect(page.locator("#check")).to_contain_text("实测：")
    assert page.url.endswith("?lesson=1")
    left += english(page)
    page.locator("#bits input[value='4']").check()
    expect(page.locator("#status")).to_contain_text("完成 · 第 1 次运行", timeout=SLOW)
    left += english(page)
    assert violations(page) == []
    assert " ".join(sorted(set(left))) == ""
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    expect(page).to_have_url(re.compile("lesson=1"))
    page.locator(".languages a").click()
    with speaking("en"):
        expect(page.locator(".claim")).to_have_text(say("page.claim"), timeout=SLOW)
    expect(page.locator("html")).to_have_attribute("lang", "en")
    assert not HAN.search(page.locator("#top").inner_text())
    expect(page.locator("#lesson h2")).to_contain_text("1. ", timeout=SLOW)
