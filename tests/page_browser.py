"""A page in a headless Chromium for the tests: what it shows, asks for and complains about.

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

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

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
PATIENCE = 120_000
"""Milliseconds: the machine may be doing something else."""


@dataclass
class Opened:
    """A page in the browser, and what it tried or complained about."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def text(self, selector: str) -> list[str]:
        """The texts of all that a selector finds."""
        return self.page.locator(selector).all_inner_texts()


def launched() -> Iterator[Browser]:
    """A headless Chromium, or the reason why there is none."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        reason = f"no Chromium on this machine (looked for {', '.join(NAMES)})"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"{reason}, and {REQUIRED}=1 asks for one")
        warnings.warn(f"THE PAGE IS NOT TESTED IN A BROWSER: {reason}", stacklevel=1)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=list(ARGUMENTS), timeout=PATIENCE
        )
        yield browser
        browser.close()


def open_page(browser: Browser, file: Path, width: int, colours: Any) -> Iterator[Opened]:
    """The page once its charts are drawn and its examples listed."""
    context = browser.new_context(
        color_scheme=colours, viewport={"width": width, "height": 900}, locale="en-GB"
    )
    opened = watched(context, file)
    opened.page.wait_for_selector("html[data-charts=drawn][data-examples=shown]")
    opened.page.wait_for_selector("#cards .card")
    yield opened
    context.close()


def watched(context: BrowserContext, file: Path) -> Opened:
    """A file from disk in a new page that keeps what it says and asks for."""
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    opened = Opened(page)
    page.on("console", lambda message: opened.said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: opened.said.append(f"error: {error}"))
    page.on("request", lambda request: opened.asked.append(request.url))
    page.goto(file.as_uri())
    return opened
