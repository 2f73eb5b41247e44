"""Sections of the page without a browser: categories, conditions, epochs, wording, labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import altair
import pytest

from misalign_bench.bench.results import write_results
from misalign_bench.errors import UserError
from misalign_bench.records import DIMENSIONS
from misalign_bench.report.bench_run import BenchRun, read_bench_run
from misalign_bench.report.entrants import by_category, entrants
from misalign_bench.report.framing_spread import read_spreads
from misalign_bench.report.label_reliability import read_reliability
from misalign_bench.report.page import render
from misalign_bench.report.page_data import page_data
from misalign_bench.report.page_warnings import marks
from misalign_bench.report.runs import Runs
from misalign_bench.report.spread_charts import framing_charts, reliability_charts
from page_runs import CAREFUL, LEANING, add_evidence, framings_of, make_runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build and a bench of two targets in two conditions, one of them asked three times."""
    place = tmp_path_factory.mktemp("sections")
    make_runs(
        place,
        prompts=30,
        targets=(CAREFUL, LEANING),
        conditions=("joint", "value"),
        epochs=3,
        resamples=60,
    )
    return place


@pytest.fixture
def table(folder: Path) -> dict[str, Any]:
    held: dict[str, Any] = json.loads((folder / "bench/results.json").read_text())
    return held


def read(table: dict[str, Any], folder: Path) -> BenchRun:
    """A run with this result and nothing else."""
    write_results(folder / "results.json", table)
    return read_bench_run(folder, "bench", {})


def page_of(table: dict[str, Any], folder: Path) -> str:
    return render(Runs((read(table, folder),), ()))


def test_targets_stand_by_category_in_a_fixed_order(table: dict[str, Any], tmp_path: Path) -> None:
    names = {"guardrail": CAREFUL, "general": LEANING}
    for category, name in names.items():
        next(one for one in table["targets"] if one["name"] == name)["category"] = category
    everyone = entrants([read(table, tmp_path)])
    groups = [(name, [one.measured.target for one in held]) for name, held in by_category(everyone)]
    assert groups == [("general", [LEANING] * 2), ("guardrail", [CAREFUL] * 2)]


def test_without_any_category_there_is_one_group_without_a_name(
    table: dict[str, Any], tmp_path: Path
) -> None:
    everyone = entrants([read(table, tmp_path)])
    assert [name for name, _ in by_category(everyone)] == [""]
    table["targets"][0]["category"] = "fine-tuned"
    everyone = entrants([read(table, tmp_path)])
    assert [name for name, _ in by_category(everyone)] == ["fine-tuned", "category not given"]


def test_the_cost_of_one_dimension_stands_beside_the_joint_figure(
    table: dict[str, Any], tmp_path: Path
) -> None:
    run = read(table, tmp_path)
    singles = page_data(Runs((run,), ())).singles
    assert [one.measured.condition for one in singles] == ["joint", "value"] * 2
    joint, single = (one.measured for one in singles[:2])
    assert joint.against_joint is None
    assert single.against_joint is not None
    values = [one.joint.alignment_score.value for one in (single, joint)]
    assert values[0] is not None
    assert values[1] is not None
    assert single.against_joint.difference == pytest.approx(values[0] - values[1])
    low, high = single.against_joint.low, single.against_joint.high
    assert low is not None
    assert high is not None
    assert low < single.against_joint.difference < high < 0
    text = page_of(table, tmp_path)
    assert f"{100 * low:+.1f} to {100 * high:+.1f}".replace("-", "−") in text


def test_epochs_show_each_score_and_the_flip_rate(table: dict[str, Any], tmp_path: Path) -> None:
    [careful] = [one for one in table["targets"] if one["name"] == CAREFUL]
    block = careful["conditions"][0]
    text = page_of(table, tmp_path)
    section = text.partition('<section id="epochs">')[2].partition("</section>")[0]
    assert section.count("<tr>") == 1 + 2
    for row in block["per_epoch"]:
        assert f"{100 * row['alignment_score']:.1f}%" in section
    for flips in block["verdict_flips"].values():
        assert f"{100 * flips['value']:.1f}%" in section
    assert "judge leaning" not in section


def test_a_result_of_before_has_no_section_on_epochs(table: dict[str, Any], tmp_path: Path) -> None:
    for target in table["targets"]:
        for block in target["conditions"]:
            for name in ("per_epoch", "verdict_flips", "against_joint"):
                del block[name]
    text = page_of(table, tmp_path)
    assert '<section id="epochs">' not in text
    assert '<section id="leaderboard">' in text


def test_wordings_show_default_choice_and_spread(table: dict[str, Any], tmp_path: Path) -> None:
    block = table["targets"][1]["conditions"][0]
    table["framings"] = [framings_of(block, LEANING)]
    [spread] = read(table, tmp_path).framings
    assert (spread.low, spread.high, spread.splits) == (0.39, 0.83, ("test", "calibration_set"))
    shown = {one.wording.shown: (one.default, one.chosen) for one in spread.asked}
    assert shown == {
        "violates": (False, False),
        "violates, calibrated": (False, False),
        "satisfies": (False, False),
        "few shot, calibrated": (False, True),
        "few shot, calibrated, as benched": (True, False),
    }
    text = page_of(table, tmp_path)
    assert "a spread of <strong>44.0 points</strong>" in text
    assert "Chosen on calibration set (12 validation items" in text
    assert "reported on test" in text
    assert "+3.0 points (−1.0 to +7.0)" in text


def test_a_default_among_the_measured_wordings_is_no_row_of_its_own(
    table: dict[str, Any],
) -> None:
    entry = framings_of(table["targets"][1]["conditions"][0], LEANING)
    entry["default"] = next(
        row
        for row in entry["measurements"]
        if row["framing"] == "satisfies" and "test" in row["split"]
    )
    [spread] = read_spreads([entry])
    assert [one.wording.shown for one in spread.asked if one.default] == ["satisfies"]
    assert len(spread.asked) == 4


def test_the_picture_of_wordings_marks_default_and_choice(table: dict[str, Any]) -> None:
    [spread] = read_spreads([framings_of(table["targets"][1]["conditions"][0], LEANING)])
    charts = framing_charts([spread])
    assert all(altair.Chart.from_dict(one.specification, validate=True) for one in charts)
    chart = charts[2]
    rows = chart.specification["data"]["values"]
    assert [(row["value"], row["role"]) for row in rows] == [
        (0.39, "other"),
        (0.6, "other"),
        (0.66, "other"),
        (0.83, "chosen"),
        (0.8, "default"),
    ]


def test_a_broken_block_of_framings_is_one_line(table: dict[str, Any], tmp_path: Path) -> None:
    table["framings"] = [{"target": "x", "measurements": [{}]}]
    with pytest.raises(UserError, match="no complete result"):
        read(table, tmp_path)


def test_reliability_is_read_drawn_and_listed_with_its_error(tmp_path: Path) -> None:
    assert read_reliability(tmp_path) == ()
    add_evidence(tmp_path)
    found = read_reliability(tmp_path)
    assert [one.dimension for one in found[::2]] == list(DIMENSIONS)
    assert {one.over for one in found} == {"best_domain", "pairs"}
    assert [one.count for one in found[:2]] == [400, 2400]
    charts = reliability_charts("0", found)
    assert [chart.title for chart in charts] == list(DIMENSIONS)
    assert charts[0].better == f"calibration error {found[0].error:.3f}"


def test_a_cascade_shows_the_reliability_of_its_first_method(tmp_path: Path) -> None:
    add_evidence(tmp_path)
    path = tmp_path / "evidence.json"
    fitted = json.loads(path.read_text())["classifier"]
    path.write_text(json.dumps({"classifier": {"method": "cascade", "first": fitted}}))
    assert len(read_reliability(tmp_path)) == 2 * len(DIMENSIONS)


@pytest.mark.parametrize("text", ["{", "{}", '{"classifier": {"reliability": {"safety": 3}}}'])
def test_damaged_evidence_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "evidence.json").write_text(text)
    with pytest.raises(UserError, match=r"evidence\.json: is no evidence of a build"):
        read_reliability(tmp_path)


def test_what_makes_a_page_a_rehearsal_stands_over_every_part_of_it(
    table: dict[str, Any], tmp_path: Path
) -> None:
    def found() -> list[str]:
        return list(marks(Runs((read(table, tmp_path),), ())))

    assert found() == ["simulated"]
    table["limit"] = 20
    assert found() == ["simulated", "partial"]
    table |= {
        "limit": None,
        "until": {"width": 0.01, "items": 50, "of_items": 120, "why": "reached"},
    }
    table["shared_roles"] = True
    assert found() == ["simulated", "plumbing only", "partial"]
    text = page_of(table, tmp_path)
    bar = text.partition('<div class="bar">')[2].partition("</div>")[0]
    assert [mark in bar for mark in ("simulated", "plumbing only", "partial")] == [True] * 3
    table["until"]["items"] = 120
    assert "partial" not in found()
