"""The page in a real browser: Debian's Chromium, driven by Playwright, without a network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from misalign_bench.report.write import write_report
from page_browser import Opened, launched, open_page
from page_runs import BROKEN, CAREFUL, LEANING, PLANTED, RELAXED, Folders, make_runs

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TAGS = ("script", "img", "a", "b", "title", "textarea")
CATEGORIES = {CAREFUL: "general", RELAXED: "general", BROKEN: "guardrail", LEANING: "guardrail"}


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
    categorise(made)
    write_report([made.build, made.bench], folder / "page.html")
    return folder / "page.html"


def categorise(made: Folders) -> None:
    """Say of each target what it is, as the settings of a bench do."""
    path = made.bench / "results.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    for target in table["targets"]:
        target["category"] = CATEGORIES[target["name"]]
    path.write_text(json.dumps(table), encoding="utf-8")


@pytest.fixture(scope="module")
def browser(file: Path) -> Iterator[Browser]:
    """A headless Chromium. The file comes first: Playwright keeps an event loop in this thread."""
    assert file.is_file()
    yield from launched()


@pytest.fixture
def opened(browser: Browser, file: Path) -> Iterator[Opened]:
    """The page on a desktop with light colours."""
    yield from open_page(browser, file, width=1280, colours="light")


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
    cells = opened.text("#leaderboard-table tbody tr td:nth-child(2) strong")
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
    for place in ("#cards", "#list"):
        assert page.locator(", ".join(f"{place} {tag}" for tag in TAGS)).count() == 0
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


def column(opened: Opened, place: str) -> list[float]:
    """The values of a column of the leaderboard, in the order shown."""
    cells = opened.page.locator(f"#leaderboard-table {place}").all()
    return [float(one.get_attribute("data-value") or "nan") for one in cells]


def test_the_leaderboard_sorts_within_its_categories(opened: Opened) -> None:
    page = opened.page
    head = page.locator("#leaderboard-table th", has_text="FFR")
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    bodies = [f"tbody:nth-of-type({number}) td:nth-child(3)" for number in (1, 2)]
    for body in bodies:
        assert column(opened, body) == sorted(column(opened, body))
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    shown = column(opened, bodies[0])
    assert shown == sorted(shown, reverse=True)
    assert len(set(shown)) > 1
    assert opened.text("#leaderboard-table tr.group") == ["general", "guardrail"]
    target = page.locator("#leaderboard-table th", has_text="Target")
    target.locator("button").click()
    names = opened.text("#leaderboard-table tbody:first-of-type .name")
    assert names == sorted(names)


def test_without_categories_the_leaderboard_is_one_ranking(opened: Opened) -> None:
    page = opened.page
    page.locator("#leaderboard-table th", has_text="AS").locator("button").click()
    grouped = column(opened, "tbody td:nth-child(4)")
    page.uncheck("#grouped")
    ranked = column(opened, "tbody td:nth-child(4)")
    assert ranked == sorted(grouped, reverse=True)
    assert page.locator("#leaderboard-table tr.group:visible").count() == 0
    page.check("#grouped")
    assert column(opened, "tbody td:nth-child(4)") == grouped
    assert page.locator("#leaderboard-table tr.group:visible").count() == 2


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
    rows = page.locator("#list [role=option]")
    page.select_option("#filters select[name=outcome]", "missed")
    assert set(rows.evaluate_all("all => all.map(e => e.dataset.outcome)")) == {"missed"}
    assert opened.text("#cards .card header .badge:first-child") == ["missed"]
    page.select_option("#filters select[name=target]", RELAXED)
    page.select_option("#filters select[name=condition]", "safety")
    assert set(rows.evaluate_all("all => all.map(e => e.dataset.target)")) == {RELAXED}
    assert opened.text("#cards .card header .badge:last-child") == ["asked about safety only"]
    page.click("#filters button[type=reset]")
    page.select_option("#filters select[name=dimension]", "culture")
    page.select_option("#filters select[name=domain]", "culture/Books")
    [meta] = opened.text("#cards .meta")
    assert "culture/Books" in meta
    page.fill("#filters input[name=text]", "no such words anywhere")
    assert rows.count() == page.locator("#cards .card").count() == 0
    assert page.locator("#count").inner_text() == "No example fits these filters"
    page.click("#filters button[type=reset]")
    page.wait_for_timeout(50)
    assert page.locator("#count").inner_text() == whole == "300 examples"


def test_arrow_keys_open_one_example_after_the_other(opened: Opened) -> None:
    page = opened.page
    first = opened.text("#cards .meta")
    page.focus("#list")
    page.keyboard.press("ArrowDown")
    assert opened.text("#cards .meta") != first
    assert page.locator("#list [aria-selected=true]").get_attribute("aria-posinset") == "2"
    page.keyboard.press("End")
    last = page.locator("#list [aria-selected=true]")
    assert last.get_attribute("aria-posinset") == last.get_attribute("aria-setsize") == "300"
    assert last.is_visible()
    assert page.locator("#list").get_attribute("aria-activedescendant") == "example-299"
    page.keyboard.press("Home")
    assert opened.text("#cards .meta") == first
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.closest('#cards') !== null")


def test_a_click_opens_the_example_of_the_row(opened: Opened) -> None:
    row = opened.page.locator("#list [role=option]").nth(4)
    title = row.locator(".row-title").inner_text().rstrip("…")
    row.click()
    assert opened.text("#cards .text")[0].startswith(title[:60])


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
        assert (
            page.locator(".top nav, .top button, #filters, #list").locator("visible=true").count()
            == 0
        )
        assert page.locator(".caveats").inner_text() == "simulated"
        page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        assert page.locator("#cards .card").count() == 10
        assert page.locator("details:not([open])").count() == 0
        assert len(page.pdf()) > 10_000


def test_the_tables_are_there_without_scripts(browser: Browser, file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.locator("#leaderboard-table tbody tr:not(.group)").count() == 4
    assert page.locator("#singles-table tbody tr").count() == 8
    assert "need scripts" in page.locator("#examples").inner_text()
    context.close()
