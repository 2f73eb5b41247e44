"""The page as a folder in a real browser: ten thousand examples, straight from disk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from misalign_bench.report.write import write_report
from page_browser import Opened, launched, open_page
from page_runs import CAREFUL, PLANTED, RELAXED, make_large

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROWS = "#list [role=option]"
CHOSEN = "#list [aria-selected=true]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of 10,000 verdicts of two targets."""
    place = tmp_path_factory.mktemp("large")
    made = make_large(place, 5_000, (CAREFUL, RELAXED))
    write_report([made.bench], place / "page")
    return place / "page"


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator[Browser]:
    """A headless Chromium. The folder comes first: Playwright keeps an event loop here."""
    assert folder.is_dir()
    yield from launched()


@pytest.fixture
def opened(browser: Browser, folder: Path) -> Iterator[Opened]:
    """The page on a desktop."""
    yield from open_page(browser, folder / "index.html", width=1280, colours="light")


def test_it_asks_for_its_own_files_only_and_for_few_of_them(opened: Opened, folder: Path) -> None:
    names = [Path(url).name for url in opened.asked]
    assert names[:2] == ["index.html", "data-index.js"]
    assert len(names) == 3
    assert all(url.startswith(folder.as_uri()) for url in opened.asked)
    assert opened.said == []


def test_ten_thousand_examples_scroll_with_only_those_in_view_in_the_page(opened: Opened) -> None:
    page = opened.page
    assert page.locator("#count").inner_text() == "10,000 examples"
    assert page.locator("#list").evaluate("list => list.scrollHeight") == 10_000 * 58
    for place in (2_500, 5_000, 9_999):
        page.locator("#list").evaluate("(list, to) => { list.scrollTop = to; }", place * 58)
        page.locator(f"#list [data-place='{place}']").wait_for()
        assert page.locator(ROWS).count() < 40
    row = page.locator(ROWS).last
    assert row.get_attribute("aria-posinset") == "10000"
    before = len(opened.asked)
    row.click()
    title = row.locator(".row-title").inner_text()
    page.locator("#cards .text", has_text=title).first.wait_for()
    [loaded] = [Path(url).name for url in opened.asked[before:]]
    assert re.fullmatch(r"data-\d{4}\.js", loaded)
    assert opened.said == []


def test_filters_work_over_all_of_them(opened: Opened) -> None:
    page = opened.page
    counted = 0
    for outcome in ("missed", "false alarm", "unscored", "correct"):
        page.select_option("#filters select[name=outcome]", outcome)
        said = page.locator("#count").inner_text()
        found = re.fullmatch(r"([\d,]+) of 10,000 examples", said)
        assert found, said
        counted += int(found[1].replace(",", ""))
        outcomes = page.locator(ROWS).evaluate_all("all => all.map(e => e.dataset.outcome)")
        assert set(outcomes) == {outcome}
    assert counted == 10_000
    page.select_option("#filters select[name=outcome]", "")
    page.select_option("#filters select[name=target]", RELAXED)
    assert page.locator("#count").inner_text() == "5,000 of 10,000 examples"
    page.select_option("#filters select[name=domain]", "culture/Museums")
    page.focus("#list")
    page.keyboard.press("End")
    page.wait_for_selector(f"{CHOSEN}[data-target='{RELAXED}']")
    meta = page.locator("#cards .meta", has_text="culture/Museums")
    meta.wait_for()
    page.fill("#filters input[name=text]", "item-00003")
    assert page.locator("#count").inner_text() == "1 of 10,000 examples"


def test_planted_code_is_text_and_does_not_run(opened: Opened) -> None:
    page = opened.page
    for number, planted in enumerate(PLANTED[:3]):
        page.fill("#filters input[name=text]", f"item-{number:05d}")
        page.locator("#cards .text", has_text=planted).first.wait_for()
    page.fill("#filters input[name=text]", "item-00003")
    page.locator("#cards mark", has_text="U+202E").first.wait_for()
    for tag in ("script", "img", "a", "b", "title", "textarea"):
        assert page.locator(f"#cards {tag}, #list {tag}").count() == 0
    assert page.evaluate("window.ran") is None
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


def test_a_data_file_that_is_gone_is_named(browser: Browser, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "page"
    copy.mkdir()
    for name in ("index.html", "data-index.js"):
        (copy / name).write_bytes((folder / name).read_bytes())
    context = browser.new_context()
    page = context.new_page()
    page.goto((copy / "index.html").as_uri())
    alert = page.locator("#cards [role=alert]")
    alert.wait_for()
    assert re.fullmatch(
        r"data-\d{4}\.js cannot be read; it must lie beside this page\.", alert.inner_text()
    )
    (copy / "data-index.js").unlink()
    page.reload()
    page.locator("#count", has_text="data-index.js cannot be read").wait_for()
    context.close()


def test_a_phone_shows_it_without_scrolling_sideways(browser: Browser, folder: Path) -> None:
    for opened in open_page(browser, folder / "index.html", width=360, colours="dark"):
        assert opened.page.evaluate("document.documentElement.scrollWidth") == 360
        opened.page.locator(ROWS).nth(2).click()
        opened.page.wait_for_selector(f"{CHOSEN}[aria-posinset='3']")
        assert opened.said == []
