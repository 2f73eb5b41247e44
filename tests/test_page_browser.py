"""The page in a real browser: Debian's Chromium, driven by Playwright, without a network.

Without a Chromium the tests are skipped; with MISALIGN_BENCH_REQUIRE_BROWSER=1 they fail instead.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from misalign_bench.report.write import write_report
from page_runs import BROKEN, CAREFUL, LEANING, PLANTED, RELAXED, make_runs

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
REQUIRED = "MISALIGN_BENCH_REQUIRE_BROWSER"


@dataclass
class Opened:
    """A page in the browser, and what it tried or complained about."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def text(self, selector: str) -> list[str]:
        """The texts of all that a selector finds."""
        return self.page.locator(selector).all_inner_texts()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a build and a bench of four targets under two conditions."""
    folder = tmp_path_factory.mktemp("browser")
    made = make_runs(
        folder,
        prompts=30,
        targets=(CAREFUL, RELAXED, BROKEN, LEANING),
        conditions=("joint", "safety"),
        epochs=1,
        resamples=50,
    )
    write_report([made.build, made.bench], folder / "page.html")
    return folder / "page.html"


@pytest.fixture(scope="module")
def browser(file: Path) -> Iterator[Browser]:
    """A headless Chromium. The file comes first: Playwright keeps an event loop in this thread."""
    assert file.is_file()
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        reason = f"no Chromium on this machine (looked for {', '.join(NAMES)})"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"{reason}, and {REQUIRED}=1 asks for one")
        warnings.warn(f"THE PAGE IS NOT TESTED IN A BROWSER: {reason}", stacklevel=1)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Browser, file: Path) -> Iterator[Opened]:
    """The page on a desktop with light colours."""
    yield from open_page(browser, file, width=1280, colours="light")


def open_page(browser: Browser, file: Path, width: int, colours: Any) -> Iterator[Opened]:
    context = browser.new_context(
        color_scheme=colours, viewport={"width": width, "height": 900}, locale="en-GB"
    )
    page = context.new_page()
    opened = Opened(page)
    page.on("console", lambda message: opened.said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: opened.said.append(f"error: {error}"))
    page.on("request", lambda request: opened.asked.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-charts=drawn]", timeout=30_000)
    yield opened
    context.close()


def test_the_page_loads_only_itself_and_complains_about_nothing(opened: Opened, file: Path) -> None:
    assert opened.asked == [file.as_uri()]
    assert opened.said == []


def test_every_chart_is_drawn(opened: Opened) -> None:
    charts = opened.page.locator(".chart")
    assert charts.count() == 6
    for place in range(charts.count()):
        drawing = charts.nth(place).locator("svg.marks")
        assert drawing.count() == 1
        assert drawing.locator("g.mark-text text").count() >= 4
        box = drawing.bounding_box()
        assert box is not None
        assert box["width"] > 200
        assert box["height"] > 60


def test_a_chart_says_the_numbers_of_the_table(opened: Opened) -> None:
    cells = opened.text("#leaderboard-table tbody:first-of-type tr td:nth-child(2) strong")
    drawn = opened.page.locator("#chart-leaderboard-coverage text").all_text_contents()
    assert len(cells) == 4
    assert set(cells) <= set(drawn)


def test_planted_code_is_shown_as_text_and_does_not_run(opened: Opened) -> None:
    page = opened.page
    for planted, shown in (
        ("<script>window.ran = 1</script>", PLANTED[0]),
        ("onerror=", PLANTED[1]),
        ("javascript:window.ran", PLANTED[2]),
        ("</textarea></title>", "invoiceU+202Efdp.exe orU+0007 notes.txt, </textarea></title>"),
    ):
        page.fill("#filters input[name=text]", planted)
        texts = page.locator("#cards .text").all_text_contents()
        assert any(shown in text for text in texts)
    assert page.locator("#cards mark").first.text_content() == "U+202E"
    assert page.evaluate("window.ran") is None
    assert page.locator("#cards script, #cards img, #cards a, #cards b").count() == 0
    assert opened.said == []


def test_an_inline_handler_or_script_could_not_run_if_it_were_there(opened: Opened) -> None:
    opened.page.evaluate(
        """() => {
            const host = document.createElement("div");
            host.innerHTML = '<img src="data:image/png;base64,x" onerror="window.ran = 5">';
            document.body.append(host);
            const script = document.createElement("script");
            script.textContent = "window.ran = 6";
            document.body.append(script);
        }"""
    )
    opened.page.wait_for_timeout(200)
    assert opened.page.evaluate("window.ran") is None
    assert any("Content Security Policy" in line for line in opened.said)


def test_the_leaderboard_sorts_within_its_conditions(opened: Opened) -> None:
    page = opened.page

    def column(body: int, cell: str) -> list[float]:
        found = page.locator(f"#leaderboard-table tbody:nth-of-type({body}) {cell}")
        return [float(one.get_attribute("data-value") or "nan") for one in found.all()]

    head = page.locator("#leaderboard-table th", has_text="FFR")
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    for body in (1, 2):
        assert column(body, "td:nth-child(3)") == sorted(column(body, "td:nth-child(3)"))
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    shown = column(1, "td:nth-child(3)")
    assert shown == sorted(shown, reverse=True)
    assert len(set(shown)) > 1
    groups = opened.text("#leaderboard-table tr.group")
    assert groups[0] == "Asked about all three dimensions"
    target = page.locator("#leaderboard-table th", has_text="Target")
    target.locator("button").click()
    names = opened.text("#leaderboard-table tbody:first-of-type .name")
    assert names == sorted(names)


def test_a_head_of_two_rows_sorts_its_own_column(opened: Opened) -> None:
    page = opened.page
    head = page.locator(".heatmap thead tr:nth-child(2) th").nth(3)
    assert head.inner_text().startswith("FFR")
    head.locator("button").click()
    cells = page.locator(".heatmap tbody:first-of-type tr:not(.group) td:nth-child(5)")
    values = [one.get_attribute("data-value") for one in cells.all()]
    known = [float(value) for value in values if value]
    assert len(known) > 1
    assert known == sorted(known)
    assert values[: len(known)] == [value for value in values if value]


def test_filters_choose_examples(opened: Opened) -> None:
    page = opened.page
    whole = page.locator("#count").inner_text()
    page.select_option("#filters select[name=outcome]", "missed")
    assert set(opened.text("#cards .card header .badge:first-child")) == {"missed"}
    page.select_option("#filters select[name=target]", RELAXED)
    page.select_option("#filters select[name=condition]", "safety")
    targets = page.locator("#cards .card").evaluate_all("all => all.map(e => e.dataset.target)")
    assert targets
    assert set(targets) == {RELAXED}
    page.click("#filters button[type=reset]")
    page.select_option("#filters select[name=dimension]", "culture")
    page.select_option("#filters select[name=domain]", "culture/Books")
    assert page.locator("#cards .meta").count() > 0
    for meta in opened.text("#cards .meta"):
        assert "culture/Books" in meta
    page.fill("#filters input[name=text]", "no such words anywhere")
    assert page.locator("#cards .card").count() == 0
    assert page.locator("#count").inner_text() == "No example fits these filters"
    page.click("#filters button[type=reset]")
    page.wait_for_timeout(50)
    assert page.locator("#count").inner_text() == whole


def test_more_examples_are_shown_on_demand(opened: Opened) -> None:
    page = opened.page
    assert page.locator("#cards .card").count() == 10
    page.click("#more")
    assert page.locator("#cards .card").count() == 20
    assert page.locator("#count").inner_text().startswith("20 of ")


def test_an_example_shows_score_threshold_and_key(opened: Opened) -> None:
    page = opened.page
    page.select_option("#filters select[name=target]", LEANING)
    page.select_option("#filters select[name=condition]", "joint")
    row = page.locator("#cards .card").first.locator("tbody tr").first
    assert row.locator("svg.meter line.threshold").count() == 1
    assert "0.500" in row.inner_text()
    key = row.locator("code.key").get_attribute("title")
    assert key is not None
    assert len(key) > 12


def test_the_theme_follows_the_system_until_the_button_is_used(
    browser: Browser, file: Path
) -> None:
    background = "getComputedStyle(document.documentElement).backgroundColor"
    bar = "getComputedStyle(document.querySelector('#chart-leaderboard-coverage text')).fill"
    seen = {}
    for colours in ("light", "dark"):
        for opened in open_page(browser, file, width=1280, colours=colours):
            page = opened.page
            before = page.evaluate(background), page.evaluate(bar)
            other = "Dark" if colours == "light" else "Light"
            assert page.locator("#theme").inner_text() == other
            page.click("#theme")
            after = page.evaluate(background), page.evaluate(bar)
            assert before[0] != after[0]
            assert before[1] != after[1]
            seen[colours] = before, after
    assert seen["light"] == tuple(reversed(seen["dark"]))


def test_a_phone_shows_it_without_scrolling_sideways(browser: Browser, file: Path) -> None:
    for opened in open_page(browser, file, width=360, colours="light"):
        width = opened.page.evaluate("document.documentElement.scrollWidth")
        assert width == 360
        assert opened.page.locator("#leaderboard-table td:visible").count() >= 20
        assert opened.said == []


def test_the_keyboard_reaches_what_the_mouse_does(opened: Opened) -> None:
    page = opened.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert {"theme", "A", "BUTTON", "DIV"} <= reached


def test_print_shows_everything_in_light_colours(browser: Browser, file: Path) -> None:
    for opened in open_page(browser, file, width=1280, colours="dark"):
        page = opened.page
        page.emulate_media(media="print")
        shade = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert shade == "rgb(255, 255, 255)"
        assert not page.locator(".top").is_visible()
        assert len(page.pdf()) > 10_000


def test_the_tables_are_there_without_scripts(browser: Browser, file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.locator("#leaderboard-table tbody tr").count() >= 8
    assert "need scripts" in page.locator("#examples").inner_text()
    context.close()
