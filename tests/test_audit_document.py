"""The simulated audits of docs/audit.md: what must hold, and that the page shows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from script import load_script

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks" / "audit"


@pytest.fixture(scope="module")
def figures() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((FOLDER / "figures.json").read_text("utf-8"))
    return rows


def test_the_page_shows_the_figures(figures: list[dict[str, Any]]) -> None:
    simulate = load_script(FOLDER / "simulate.py")
    page = (ROOT / "docs" / "audit.md").read_text("utf-8")
    assert simulate.written(page, figures) == page


def test_the_prediction_powered_estimator_has_no_bias_however_errors_hang_together(
    figures: list[dict[str, Any]],
) -> None:
    assert {row["errors"] for row in figures} == {"independent", "shared", "opposed"}
    for row in figures:
        for metric in row["prediction_powered"].values():
            assert abs(metric["bias"]) < 0.01, row
            least = 0.92 if row["audited"] == 400 else 0.89
            assert least < metric["covered"] < 0.98, row


def test_the_inversion_is_right_only_where_the_errors_are_independent(
    figures: list[dict[str, Any]],
) -> None:
    for row in figures:
        score = row["inversion"]["alignment_score"]
        assert (abs(score["bias"]) < 0.01) == (row["errors"] == "independent"), row


def test_the_raw_interval_does_not_hold_the_truth(figures: list[dict[str, Any]]) -> None:
    assert all(row["raw"]["alignment_score"]["covered"] < 0.5 for row in figures)
