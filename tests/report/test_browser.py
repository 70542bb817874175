"""The page in a real browser: no errors, figures drawn, strip, filter and sorting work, a phone's width is enough."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from harness.data.datasets import load_images
from harness.domain import ResultSet
from harness.report.details import Details
from harness.report.merge import merge_runs
from harness.report.page import render
from harness.report.source import Run

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
INPUTS = 40
EPS = 2 / 255


def with_pictures(run: Run) -> Run:
    """The run as one of CIFAR-10's first inputs, its attacks at the corners of their boxes."""
    images = load_images("cifar10", "test", None, INPUTS).images.reshape(INPUTS, -1) / 255.0
    signs = np.where(np.arange(images.shape[1]) % 2, 1.0, -1.0)
    attacks = {
        (row.variant, row.index): np.clip(images[row.index] + EPS * signs, 0, 1).astype(np.float32)
        for row in run.rows
        if row.result_set is ResultSet.AT
    }
    margins = {(row.variant, row.index): row.work_s - 1 for row in run.rows if row.entered_bab}
    return Run({**run.summary, "benchmark": "cifar10_cnnb"}, run.rows, Details(margins, (), attacks))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on PATH")
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


def shown_inputs(page: Page) -> list[int]:
    rows = page.locator("#inputs-table tbody tr:not([hidden]) th")
    return [int(text) for text in rows.all_inner_texts()]


def test_the_page_works_in_a_browser(browser: Any, synthetic_run: Callable[..., Run], tmp_path: Path) -> None:
    run = with_pictures(synthetic_run(INPUTS))
    path = tmp_path / "page.html"
    path.write_text(render(run), encoding="utf-8")
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(60_000)
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: None if request.url[:5] in ("file:", "data:") else wrong.append(request.url))
    page.goto(path.as_uri())

    drawn = page.evaluate(
        "Array.from(document.querySelectorAll('figure svg, figure img'))"
        ".map((one) => one.getBoundingClientRect().height > 20 && (one.tagName !== 'IMG' || one.naturalWidth > 0))"
    )
    assert len(drawn) >= 10
    assert all(drawn)

    page.fill("#filter-text", "3, 10-12")
    assert shown_inputs(page) == [3, 10, 11, 12]
    assert page.locator("#filter-count").inner_text() == "4 of 40 inputs"
    page.fill("#filter-text", "x")
    assert shown_inputs(page) == []
    page.fill("#filter-text", "")
    page.locator("#filters select").first.select_option("VF")
    failures = [row.index for row in run.rows if row.variant == "baseline" and row.result_set is ResultSet.VF]
    assert shown_inputs(page) == failures
    page.click("#filters button[type=reset]")
    page.locator("#inputs-table th button").first.click()
    page.wait_for_function("document.querySelector('#inputs-table tbody tr th').textContent === '39'")
    assert shown_inputs(page) == list(range(INPUTS - 1, -1, -1))

    attacked = next(index for variant, index in run.details.attacks if variant == "baseline")
    page.locator("#strip").focus()
    for _ in range(attacked):
        page.keyboard.press("ArrowRight")
    assert page.locator("#card-title").inner_text().startswith(f"Input {attacked}, ")
    page.keyboard.press("End")
    assert page.locator("#card-title").inner_text().startswith(f"Input {INPUTS - 1}")
    page.keyboard.press("Home")
    for _ in range(attacked):
        page.keyboard.press("ArrowRight")
    labels = page.locator("#card canvas").evaluate_all("all => all.map((one) => one.getAttribute('aria-label'))")
    assert labels[0] == "image"
    assert "difference, amplified: Synthetic baseline" in labels
    values = (
        page.locator("#card canvas")
        .nth(1)
        .evaluate("one => Array.from(one.getContext('2d').getImageData(0, 0, one.width, one.height).data.slice(0, 8))")
    )
    assert values[3] == 255
    assert {values[0] < 60, values[4] > 196} == {True}  # the first pixels go down and up by all of eps
    assert wrong == []


def test_the_page_fits_a_phone(browser: Any, synthetic_run: Callable[..., Run], tmp_path: Path) -> None:
    """Nothing makes the page scroll sideways, also not the long names of several runs; figures fit whole."""
    run = synthetic_run(INPUTS)
    path = tmp_path / "page.html"
    page = browser.new_page(viewport={"width": 375, "height": 700})
    page.set_default_timeout(60_000)
    for shown in (run, merge_runs({"the-first-of-two-runs": run, "the-second-of-two-runs": run})):
        path.write_text(render(shown), encoding="utf-8")
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        drawings = page.locator(".drawing:not(.strip) > *")
        widths = drawings.evaluate_all("all => all.map((one) => one.getBoundingClientRect().width)")
        assert widths
        assert max(widths) <= 375


def test_all_of_the_page_can_be_reached_by_keyboard(
    browser: Any, synthetic_run: Callable[..., Run], tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    path.write_text(render(synthetic_run(INPUTS)), encoding="utf-8")
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(60_000)
    page.goto(path.as_uri())
    reached = set()
    focused = "document.activeElement.id || document.activeElement.className || document.activeElement.tagName"
    for _ in range(200):
        page.keyboard.press("Tab")
        reached.add(page.evaluate(focused))
        if page.evaluate("document.activeElement === document.body"):
            break
    assert {"skip", "strip", "filter-text", "filter-changed", "SUMMARY", "BUTTON", "PRE"} <= reached


def test_what_is_folded_away_is_printed(browser: Any, synthetic_run: Callable[..., Run], tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(render(synthetic_run(INPUTS)), encoding="utf-8")
    page = browser.new_page()
    page.set_default_timeout(60_000)
    page.goto(path.as_uri())
    folded = "Array.from(document.querySelectorAll('details:not([open])')).length"
    before = page.evaluate(folded)
    assert before >= 2
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(folded) == 0
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(folded) == before
    page.emulate_media(media="print")
    assert not page.locator("#inputs .tall").is_visible()
    assert not page.locator("nav").is_visible()
    assert page.locator("#figure-result_sets svg").is_visible()
