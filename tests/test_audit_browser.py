"""The annotation form in a real browser: labelled by keyboard, saved, and read by ``audit score``.

Without a Chromium the tests are skipped; with MISALIGN_BENCH_REQUIRE_BROWSER=1 they fail instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import audit_runs
from misalign_bench.bench.audit.key import Key, read_key
from misalign_bench.bench.audit.labels import FORMAT, read_labels
from misalign_bench.bench.audit.sample import draw_sample
from misalign_bench.build.judged_draws import JudgedDraw
from misalign_bench.cli.main import main
from misalign_bench.records import DIMENSIONS
from misalign_bench.report.audit_form import form
from page_browser import Opened, launched, watched

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

HOSTILE = (
    "<script>window.ran = 1</script>",
    "</script><img src=x onerror='window.ran = 2'>",
    "invoice\u202efdp.exe\u0007",
    "[a link](javascript:window.ran=3)",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build with an audit of 12 responses."""
    run = audit_runs.build(tmp_path_factory.mktemp("form"), 12)
    assert main(["audit", "sample", str(run), "--n", "12"]) == 0
    return run


@pytest.fixture(scope="module")
def browser(run: Path) -> Iterator[Browser]:
    """A headless Chromium. The run comes first: Playwright keeps an event loop in this thread."""
    assert run.is_dir()
    yield from launched()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser profile of its own."""
    context = browser.new_context(accept_downloads=True)
    yield context
    context.close()


def opened(context: BrowserContext, file: Path) -> Opened:
    found = watched(context, file)
    found.page.wait_for_selector("html[data-ready=yes]")
    return found


def place(run: Path) -> Path:
    return run / "audit" / "annotators" / "form.html"


def key_of(run: Path) -> Key:
    return read_key(run / "audit" / "key.json")


def saved(page: Page, folder: Path) -> Path:
    with page.expect_download() as download:
        page.keyboard.press("s")
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_three_replies_labelled_by_keyboard_are_read_by_the_command(
    run: Path, context: BrowserContext, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = opened(context, place(run))
    page = found.page
    page.fill("#annotator", "Ann B.")
    page.locator("#place").focus()
    for letter in "ynunnnyyy":
        page.keyboard.press(letter)
    assert page.inner_text("#progress") == "3 of 12 labelled"
    assert page.inner_text("#place") == "Reply 4 of 12"
    path = saved(page, tmp_path)
    assert path.name == "labels-Ann-B-.json"
    (one,) = read_labels([path], key_of(run))
    first, second, third = (row.id for row in key_of(run).rows[:3])
    assert one.name == "Ann B."
    assert one.answers == {
        first: {"safety": True, "value": False, "culture": None},
        second: dict.fromkeys(DIMENSIONS, False),
        third: dict.fromkeys(DIMENSIONS, True),
    }
    assert main(["audit", "score", str(run), str(path), "--resamples", "20"]) == 0
    assert "annotators: Ann B." in capsys.readouterr().out
    assert found.said == []
    assert found.asked[0] == place(run).as_uri()
    assert all(url.startswith("blob:") for url in found.asked[1:])


def test_progress_is_kept_for_the_next_visit(run: Path, context: BrowserContext) -> None:
    page = opened(context, place(run)).page
    page.fill("#annotator", "ben")
    page.fill("#note", "odd")
    page.locator("#place").focus()
    for letter in "nyn":
        page.keyboard.press(letter)
    page.close()
    again = opened(context, place(run)).page
    assert again.inner_text("#progress") == "1 of 12 labelled"
    assert again.inner_text("#place") == "Reply 2 of 12"
    assert again.input_value("#annotator") == "ben"
    again.locator("#place").focus()
    again.keyboard.press("k")
    assert again.input_value("#note") == "odd"
    assert again.locator("input:checked").evaluate_all("all => all.map(one => one.value)") == [
        "no",
        "yes",
        "no",
    ]


def test_an_answer_can_be_changed_by_number_and_by_mouse(
    run: Path, context: BrowserContext, tmp_path: Path
) -> None:
    page = opened(context, place(run)).page
    page.fill("#annotator", "cleo")
    page.locator("#place").focus()
    for letter in "nnnk2y":
        page.keyboard.press(letter)
    page.locator("fieldset[data-dimension=culture] input[value=unsure]").check()
    page.locator("#place").focus()
    labels = json.loads(saved(page, tmp_path).read_bytes())["labels"]
    assert labels == [
        {
            "id": key_of(run).rows[0].id,
            "safety": "no",
            "value": "yes",
            "culture": "unsure",
        }
    ]


def test_keys_typed_into_a_field_are_no_answers(run: Path, context: BrowserContext) -> None:
    page = opened(context, place(run)).page
    page.locator("#annotator").press_sequentially("yuns")
    page.locator("#note").press_sequentially("yes, no")
    assert page.locator("input:checked").count() == 0
    assert page.inner_text("#progress") == "0 of 12 labelled"


def test_nothing_is_saved_without_a_name(run: Path, context: BrowserContext) -> None:
    page = opened(context, place(run)).page
    page.click("#save")
    assert "Give your name" in page.inner_text("#warning")
    assert page.evaluate("document.activeElement.id") == "annotator"


def test_what_the_browser_kept_of_another_kind_is_ignored(
    run: Path, context: BrowserContext
) -> None:
    page = opened(context, place(run)).page
    name = f"misalign-bench-audit-{key_of(run).audit}"
    for held in ('{"labels": {"r1": 3}, "annotator": 5}', "nonsense", "null"):
        page.evaluate("([name, held]) => localStorage.setItem(name, held)", [name, held])
        page.reload()
        page.wait_for_selector("html[data-ready=yes]")
        assert page.inner_text("#progress") == "0 of 12 labelled"


def test_hostile_replies_are_shown_as_text(context: BrowserContext, tmp_path: Path) -> None:
    draws = [
        JudgedDraw(
            key=f"k{number}",
            prompt_id="p",
            cluster_id="c",
            split="",
            prompt=text,
            response=text,
            generator="g",
            kind="aligned",
            accepted=True,
            flagged=dict.fromkeys(DIMENSIONS, False),
        )
        for number, text in enumerate(HOSTILE)
    ]
    file = tmp_path / "form.html"
    file.write_text(form(draw_sample(draws, 9, 0)), encoding="utf-8")
    found = opened(context, file)
    shown = set()
    for _ in HOSTILE:
        assert found.page.inner_text("#prompt") == found.page.inner_text("#response")
        shown.add(found.page.inner_text("#response"))
        found.page.keyboard.press("j")
    assert shown == {HOSTILE[0], HOSTILE[1], "invoice⟦U+202E⟧fdp.exe⟦U+0007⟧", HOSTILE[3]}
    assert found.page.evaluate("window.ran === undefined")
    assert found.page.locator("pre *").count() == 0
    assert (found.said, found.asked) == ([], [file.as_uri()])


def test_the_form_fits_a_phone_and_saves_its_format(
    browser: Browser, run: Path, tmp_path: Path
) -> None:
    context = browser.new_context(viewport={"width": 375, "height": 700}, accept_downloads=True)
    page = opened(context, place(run)).page
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.fill("#annotator", "d")
    page.locator("#place").focus()
    table = json.loads(saved(page, tmp_path).read_bytes())
    assert (table["format"], table["labels"]) == (FORMAT, [])
    context.close()
