"""Plan, Compare and export in headless Chromium: the ways of people who come with a question."""

import json
from pathlib import Path

import pytest
from browser import PHONE, SIZES, SLOW, violations
from playwright.sync_api import Page, expect

from turbo_kv.measure.report import Report

expect.set_options(timeout=30_000)  # a shared machine is slow

SHIFTS = """() => {
  window.shifts = 0;
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) window.shifts += entry.hadRecentInput ? 0 : entry.value;
  }).observe({ type: 'layout-shift' });
}"""


def tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()
    page.locator(f"#{name.lower()}-finding").wait_for(state="visible", timeout=SLOW)


def done(page: Page, number: int) -> None:
    expect(page.locator("#status")).to_contain_text(f"Done · run {number}", timeout=SLOW)


def saved(page: Page, section: str, file: str) -> Path:
    with page.expect_download(timeout=SLOW) as download:
        page.locator(f'#{section} [data-file="{file}"]').click()
    assert download.value.suggested_filename == f"turbo_kv-{file}"
    return Path(download.value.path())


def fill(page: Page, field: str, value: str) -> None:
    number = page.locator(f"#{field} input[type=number]")
    number.fill(value)
    number.press("Tab")


def test_someone_deciding_plans_checks_the_damage_and_takes_the_report(visit):
    page = visit()
    tab(page, "Plan")
    finding = page.locator("#plan-finding")
    expect(finding).to_contain_text("Packing adds Qwen2.5-7B")
    page.locator("#plan-batch input[type=range]").focus()
    page.keyboard.press("ArrowLeft")
    expect(finding).to_contain_text("7 texts of 32,768 tokens")
    fill(page, "plan-batch", "1")
    expect(finding).to_contain_text("here packing buys length, not a larger model")
    fill(page, "plan-memory", "32")
    expect(finding).to_contain_text("Packing adds Qwen2.5-14B", timeout=SLOW)
    page.locator("#bits").get_by_label("4").check()
    expect(page.locator("#plan-chart .sums")).to_contain_text("4.13 bits per value")
    page.locator("#plan-chart summary").click()
    expect(page.locator("#plan-chart table tbody tr")).to_have_count(7)
    fill(page, "plan-memory", "0")
    expect(page.locator("#plan-memory-message [role=alert]")).to_contain_text("1 to 10,000 GiB")
    done(page, 1)

    page.get_by_role("tab", name="Run").click()
    report = Report.from_dict(json.loads(saved(page, "export", "report.json").read_text()))
    assert (report.config.bits, report.tokens) == (4, 2048)
    expect(page.locator("#as-command")).to_contain_text("--bits 4 --centering mean")


def test_someone_with_a_minute_and_a_phone_breaks_the_model_and_compares(visit, page):
    page.set_viewport_size(PHONE)
    visit()
    page.evaluate(SHIFTS)
    page.locator("#centering").get_by_label("off").check()
    done(page, 1)
    expect(page.locator("#verdict h2")).to_contain_text("codes break this model")
    tab(page, "Compare")
    expect(page.locator("#compare-finding")).to_contain_text("Centring gains more than another bit")
    assert page.evaluate("window.shifts") < 0.1
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_compare_measures_what_was_read_last_sorts_and_hands_over(visit):
    page = visit()
    page.locator("#context input").fill("128")
    page.locator("#run").click()
    done(page, 1)
    tab(page, "Compare")
    expect(page.locator("#compare-finding")).to_contain_text("128 tokens of Python language")
    rows = page.locator("#compare-table tbody tr")
    expect(rows).to_have_count(2)
    page.locator("#compare").click()
    expect(page.locator("#compare-status")).to_contain_text("methods measured", timeout=SLOW)
    chosen = page.locator("#methods input:checked").count()
    expect(rows).to_have_count(chosen)

    column = page.get_by_role("button", name="Attention KL nats, mean")
    column.focus()
    page.keyboard.press("Enter")
    cells = rows.locator("td:nth-child(3)").all()
    values = [float(cell.get_attribute("data-value")) for cell in cells]
    assert values == sorted(values)
    page.locator("#methods").get_by_label("2 bits", exact=True).uncheck()
    expect(rows).to_have_count(chosen - 1)

    points = json.loads(saved(page, "compare-files", "methods.json").read_text())
    assert len(points["points"]) == chosen - 1
    assert points["tokens"] == 128
    assert saved(page, "compare-files", "pareto.png").read_bytes().startswith(b"\x89PNG")


def test_the_exported_page_opens_offline_with_every_figure(visit, browser, tmp_path):
    exported = tmp_path / "report.html"
    exported.write_bytes(saved(visit(), "export", "report.html").read_bytes())
    page = browser.new_page()
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(f"file://{exported}")
    expect(page.locator("h2").first).to_contain_text("Centring repairs it.")
    assert page.locator(".figure svg").count() == 4
    for picture in page.locator("img").all():
        assert picture.evaluate("image => image.naturalWidth") == 256
    assert [url for url in requests if not url.startswith(("data:", f"file://{exported}"))] == []
    page.close()


def test_a_link_restores_the_form_and_copies_itself(visit, context):
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = visit("/?bits=2&context=512&qjl=on&source=Prose&centering=nonsense&text=secret")
    expect(page.locator("#status")).to_contain_text("Press Run to measure it", timeout=SLOW)
    expect(page.locator("#status")).to_contain_text("no choice here: centering")
    expect(page.locator("#bits").get_by_label("2")).to_be_checked()
    expect(page.locator("#qjl input")).to_be_checked()
    expect(page.locator("#context input")).to_have_value("512")
    expect(page.locator("#source input")).to_have_value("Prose")
    page.locator("#run").click()
    done(page, 1)
    page.locator('#export [data-copy="as-link"]').click()
    expect(page.locator("#export [role=status]")).to_have_text("Copied.")
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == page.locator("#as-link").evaluate("link => link.href")
    assert "source=Prose" in link
    assert "secret" not in link


def test_a_link_to_a_stored_setting_opens_its_head(visit):
    page = visit("/?centering=off&layer=2&head=3")
    expect(page.locator("#verdict")).to_contain_text("Without centring", timeout=SLOW)
    selected = page.locator('#attention-grid [aria-selected="true"]')
    expect(selected).to_have_attribute("data-layer", "2")
    expect(selected).to_have_attribute("data-head", "3")


def test_the_page_introduces_itself_and_arrow_keys_move_between_tabs(visit):
    page = visit()
    assert page.title() == "turbo_kv"
    assert page.locator("html").get_attribute("lang") == "en"
    assert "3 bits" in page.locator("meta[name=description]").get_attribute("content")
    assert page.locator("link[rel=icon]").last.get_attribute("href").startswith("data:")
    first = page.get_by_role("tab", name="Run")
    first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Generate")).to_be_focused()
    expect(page.locator("#generate-status")).to_be_visible()
    page.keyboard.press("End")
    expect(page.get_by_role("tab").last).to_have_attribute("aria-selected", "true")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES, ids=["wide", "phone"])
def test_every_size_and_theme_fits_and_is_accessible(visit, page, theme, size):
    page.set_viewport_size(size)
    visit(f"/?__theme={theme}")
    for name in ("Compare", "Plan"):
        tab(page, name)
        page.locator("summary:visible").first.click()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert violations(page) == []
