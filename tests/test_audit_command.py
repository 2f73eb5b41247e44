"""``audit score`` on real run folders: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import audit_runs
from audit_runs import label, save
from misalign_bench.bench.audit.key import read_key
from misalign_bench.bench.audit.results import known_error_notes
from misalign_bench.cli.main import main
from misalign_bench.records import DIMENSIONS

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build with an audit of 120 responses, and a bench of all its splits."""
    place = tmp_path_factory.mktemp("command")
    run = audit_runs.build(place, 40)
    assert main(["audit", "sample", str(run), "--n", "120"]) == 0
    audit_runs.bench(run, place / "bench", "--split", "all", "--epochs", "1")
    return place


def scored(run: Path, *more: object) -> dict[str, Any]:
    assert main(["audit", "score", str(run), *map(str, more), "--resamples", "200"]) == 0
    table: dict[str, Any] = json.loads((run / "audit" / "audit.json").read_bytes())
    return table


def joint_of(bench: Mapping[str, Any]) -> dict[str, Any]:
    (found,) = (row for row in bench["measurements"] if row["column"] == "joint")
    return dict(found)


def test_people_who_agree_with_the_evaluator_find_no_error(folder: Path) -> None:
    run = folder / "run"
    table = scored(run, label(run, "ann"), "--bench", folder / "bench")
    for column in ("joint", *DIMENSIONS):
        held = table["evaluator"][column]
        assert held["coverage"]["value"] == 1.0
        assert held["false_failure_rate"]["value"] == 0.0
        assert held["labelled"] == 120
        assert held["agreement"] is None
    joint = joint_of(table["benches"][0])
    assert joint["purity"]["misaligned"]["value"] == 1.0
    for metric, raw in joint["raw"].items():
        assert joint["prediction_powered"][metric]["value"] == pytest.approx(raw["value"])
        assert joint["inversion"][metric]["value"] == pytest.approx(raw["value"])


def test_the_raw_numbers_are_those_of_the_bench(folder: Path) -> None:
    run = folder / "run"
    asked = ["audit", "score", str(run), str(label(run, "ann")), "--bench", str(folder / "bench")]
    assert main(asked) == 0
    table = json.loads((run / "audit" / "audit.json").read_bytes())
    results = json.loads((folder / "bench" / "results.json").read_bytes())
    (condition,) = results["targets"][0]["conditions"]
    cells = {"joint": condition["joint"], **condition["dimension"]}
    rows = table["benches"][0]["measurements"]
    assert [row["column"] for row in rows] == ["joint", *DIMENSIONS]
    for row in rows:
        for metric, ours in row["raw"].items():
            theirs = cells[row["column"]][metric]
            for name in ("value", "low", "high"):
                assert ours[name] == pytest.approx(theirs[name], abs=1e-12)


def test_the_evaluators_slips_are_found_and_the_bench_corrected(folder: Path) -> None:
    run = folder / "run"
    people = [label(run, name, 0.1, 5) for name in ("ann", "ben", "cleo")]
    table = scored(run, *people, "--bench", folder / "bench")
    held = table["evaluator"]["joint"]
    assert held["agreement"]["statistic"] == "krippendorff_alpha"
    assert held["agreement"]["value"] == pytest.approx(1.0)
    assert held["coverage"]["low"] < held["coverage"]["value"] < 1
    joint = joint_of(table["benches"][0])
    assert joint["prediction_powered"]["coverage"]["value"] < joint["raw"]["coverage"]["value"]
    width = {
        name: joint[name]["coverage"]["high"] - joint[name]["coverage"]["low"]
        for name in ("raw", "prediction_powered")
    }
    assert width["prediction_powered"] > width["raw"]


def test_two_annotators_who_differ_leave_ties_that_are_counted(
    folder: Path, capsys: Captured
) -> None:
    run = folder / "run"
    table = scored(run, label(run, "ann"), label(run, "ben", 0.2, 1))
    held = table["evaluator"]["safety"]
    assert held["agreement"]["statistic"] == "cohen_kappa"
    assert 0 < held["agreement"]["value"] < 1
    assert held["not_labelled"]["tied"] > 0
    assert held["labelled"] + held["not_labelled"]["tied"] == 120
    assert "annotators: ann, ben" in capsys.readouterr().out


def test_missing_and_unsure_answers_are_counted(folder: Path) -> None:
    run = folder / "run"
    key = read_key(run / "audit" / "key.json")
    answers = dict.fromkeys(DIMENSIONS, "no")
    labels = [{"id": row.id} | answers for row in key.rows[:50]]
    labels += [{"id": row.id} | answers | {"value": "unsure"} for row in key.rows[50:60]]
    table = scored(run, save(folder / "some.json", key.audit, "some", labels))
    held = table["evaluator"]["value"]
    assert held["not_labelled"] == {"tied": 0, "unsure": 10, "missing": 60}
    assert table["annotators"][0]["value"] == {"missing": 60, "no": 50, "unsure": 10}


def test_a_filled_sheet_is_scored(folder: Path) -> None:
    run = folder / "run"
    text = (run / "audit" / "annotators" / "sheet.csv").read_text("utf-8-sig")
    filled = text.replace(",,,,\n", ",no,yes,unsure,\n").replace(",,,,\r\n", ",no,yes,unsure,\r\n")
    path = folder / "dora.csv"
    path.write_text(filled, encoding="utf-8-sig")
    table = scored(run, path)
    assert table["annotators"][0]["name"] == "dora"
    assert table["evaluator"]["value"]["labelled"] == 120
    assert table["evaluator"]["joint"]["labelled"] == 120
    assert table["evaluator"]["culture"]["not_labelled"]["unsure"] == 120


def test_a_bench_of_other_data_is_refused(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    run = folder / "run"
    other = shutil.copytree(folder / "bench", tmp_path / "other")
    results = json.loads((other / "results.json").read_bytes())
    results["dataset"]["content_hash"] = "0" * 64
    (other / "results.json").write_text(json.dumps(results))
    asked = ["audit", "score", str(run), str(label(run, "ann")), "--bench", str(other)]
    assert main(asked) == 2
    assert "it benched other items" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["{folder}/none.json"], "cannot be read"),
        (["{folder}/ann.json", "--bench", "{folder}/run"], "there are no readable results"),
        (["{folder}/ann.json", "--audit", "{folder}/no"], "Draw the sample first"),
        (["{folder}/ann.json", "--resamples", "-1"], "must be 0 or more"),
        (["{folder}/empty.json"], "the files hold no label"),
    ],
)
def test_what_cannot_be_scored_is_one_line(
    folder: Path, more: list[str], line: str, capsys: Captured
) -> None:
    run = folder / "run"
    label(run, "ann")
    save(folder / "empty.json", read_key(run / "audit" / "key.json").audit, "empty", [])
    capsys.readouterr()
    asked = [part.format(folder=folder) for part in more]
    assert main(["audit", "score", str(run), *asked]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert line in said


def test_a_run_that_the_evaluator_judged_has_its_rates_corrected(
    folder: Path, tmp_path: Path
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    run = folder / "run"
    (evaluator,) = read_key(run / "audit" / "key.json").evaluators
    rows = [
        {"cluster_id": f"c{number}", "target": "t", "judge": judge, "dimension": column}
        | {"verdict": "flagged" if number < 12 else "passed"}
        for number in range(40)
        for judge in (evaluator, "panel")
        for column in ("joint", "safety")
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "panel.parquet")
    table = scored(run, label(run, "ann", 0.05, 3), "--bench", tmp_path)
    (answers,) = table["responding"]
    assert answers["judge"] == evaluator
    assert [one["column"] for one in answers["rates"]] == ["joint", "safety"]
    joint, known = answers["rates"][0], table["evaluator"]["joint"]
    coverage, failures = known["coverage"]["value"], known["false_failure_rate"]["value"]
    assert joint["raw"] == 0.3
    assert joint["rogan_gladen"]["value"] == pytest.approx((0.3 - failures) / (coverage - failures))


def test_a_run_of_other_judges_is_refused(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    run = folder / "run"
    row = {"cluster_id": "c", "target": "t", "judge": "other", "dimension": "joint"}
    pq.write_table(pa.Table.from_pylist([row | {"verdict": "passed"}]), tmp_path / "panel.parquet")
    asked = ["audit", "score", str(run), str(label(run, "ann")), "--bench", str(tmp_path)]
    assert main(asked) == 2
    assert "none of its judges (other)" in capsys.readouterr().err


def test_the_card_can_name_the_known_error(folder: Path, tmp_path: Path) -> None:
    run = folder / "run"
    scored(run, label(run, "ann", 0.1, 1), label(run, "ben", 0.1, 2), label(run, "cleo", 0.1, 3))
    first, second = known_error_notes(run)
    assert first.startswith("Known error of the evaluator: 120 of the responses")
    assert "3 people" in first
    assert "Alignment Score " in first
    assert second.startswith("The annotators agree with Krippendorff's alpha 0.")
    assert known_error_notes(tmp_path) == ()
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "audit.json").write_text('{"evaluator": 3}')
    assert known_error_notes(tmp_path) == ()
