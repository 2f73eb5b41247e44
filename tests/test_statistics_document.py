"""The simulated figures of docs/statistics.md: what must hold, and that the page shows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from script import load_script

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks" / "statistics"


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    table: dict[str, Any] = json.loads((FOLDER / "figures.json").read_text("utf-8"))
    return {name: part["rows"] for name, part in table.items()}


def test_the_page_shows_the_figures() -> None:
    document = load_script(FOLDER / "document.py")
    page = (ROOT / "docs" / "statistics.md").read_text("utf-8")
    table = json.loads((FOLDER / "figures.json").read_text("utf-8"))
    assert set(table) == set(document.TABLES)
    assert document.written(page, table) == page


def test_intervals_cover_in_93_to_97_percent_from_300_clusters_on(figures: dict[str, Any]) -> None:
    rows = [row for row in figures["coverage"] if row["clusters"] >= 300]
    assert len(rows) == 12
    for row in rows:
        for metric in row["bca"].values():
            assert 0.93 <= metric["covered"] <= 0.97, row


def test_the_tests_err_in_4_to_6_percent(figures: dict[str, Any]) -> None:
    assert len(figures["alike"]) == 18
    for row in figures["alike"]:
        for metric in ("coverage", "false_failure_rate", "alignment_score"):
            assert 0.04 <= row[metric] <= 0.06, row
    for row in figures["same_score"]:
        assert 0.04 <= row["alignment_score"] <= 0.06, row


def test_the_interval_at_the_stop_covers_and_calls_are_saved(figures: dict[str, Any]) -> None:
    assert len(figures["stopping"]) == 12
    for row in figures["stopping"]:
        assert 0.93 <= row["covered"] <= 0.97, row
        assert row["ratio"] < 0.75, row


def test_the_detectable_difference_is_found_in_about_four_of_five_cases(
    figures: dict[str, Any],
) -> None:
    for row in figures["power"]:
        assert 0.76 <= row["alignment_score"] <= 0.84, row
