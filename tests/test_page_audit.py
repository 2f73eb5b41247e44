"""The audit on the page: what people say of the evaluator, and benches corrected for its error."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import audit_runs
from misalign_bench.cli.main import main
from misalign_bench.errors import UserError
from misalign_bench.records import CONDITIONS
from misalign_bench.report.audit_view import read_audit
from misalign_bench.report.page import render
from misalign_bench.report.runs import read_runs


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of 40 prompts with 120 labelled responses, and a bench of it."""
    place = tmp_path_factory.mktemp("audited")
    run = audit_runs.build(place, 40)
    audit_runs.bench(run, place / "bench", "--split", "all", "--epochs", "1")
    assert main(["audit", "sample", str(run), "--n", "120"]) == 0
    people = [audit_runs.label(run, name, 0.1, seed) for seed, name in enumerate(("ann", "ben"))]
    command = ["audit", "score", str(run), *map(str, people), "--bench", str(place / "bench")]
    assert main([*command, "--resamples", "200"]) == 0
    return place


def table_of(audited: Path) -> dict[str, Any]:
    held: dict[str, Any] = json.loads((audited / "run/audit/audit.json").read_bytes())
    return held


def test_the_view_holds_what_was_scored(audited: Path) -> None:
    table, view = table_of(audited), read_audit(audited / "run")
    assert view is not None
    assert (view.annotators, view.statistic) == (2, "Cohen's kappa")
    assert [row.column for row in view.checked] == list(CONDITIONS)
    for row in view.checked:
        held = table["evaluator"][row.column]
        assert row.labelled + row.without == 120
        assert row.agreement == held["agreement"]["value"]
        assert row.metrics[2].value == held["alignment_score"]["value"]
    raw, powered, inverted = (
        row.metrics[0].value for row in view.corrected if row.column == "joint"
    )
    (joint,) = (row for row in table["benches"][0]["measurements"] if row["column"] == "joint")
    assert raw == joint["raw"]["coverage"]["value"]
    assert powered == joint["prediction_powered"]["coverage"]["value"]
    assert inverted == joint["inversion"]["coverage"]["value"]


def test_the_page_shows_raw_beside_corrected(audited: Path) -> None:
    html = render(read_runs([audited / "run", audited / "bench"]))
    view = read_audit(audited / "run")
    assert view is not None
    assert "What people say of the evaluator" in html
    assert "2 people labelled a sample of the" in html
    for row in (*view.checked, *view.corrected):
        for metric in row.metrics:
            assert metric.value is None or f"<strong>{100 * metric.value:.1f}%</strong>" in html
    for name in ("raw", "prediction-powered", "inversion"):
        assert f'data-label="Estimate">{name}</td>' in html


def test_a_reason_stands_where_there_is_no_number(audited: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(audited / "run", run)
    table = table_of(audited)
    table["annotators"] = table["annotators"][:1]
    none = {"value": None, "low": None, "high": None, "clusters": 12, "note": "<b>refused</b>"}
    rate = {"target": "m", "column": "joint", "answers": 9, "raw": 0.25, "rogan_gladen": none}
    table["responding"] = [{"name": "answers", "judge": "j", "rates": [rate]}]
    (run / "audit/audit.json").write_text(json.dumps(table))
    html = render(read_runs([run]))
    assert "&lt;b&gt;refused&lt;/b&gt;" in html
    assert "Cohen" not in html
    assert ">25.0%</td>" in html


def test_without_an_audit_nothing_is_said(audited: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(audited / "run", run, ignore=shutil.ignore_patterns("audit"))
    assert read_audit(run) is None
    assert "What people say of the evaluator" not in render(read_runs([run]))


@pytest.mark.parametrize("text", ["{", "[]", '{"evaluator": 3}'])
def test_a_damaged_audit_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit/audit.json").write_text(text)
    with pytest.raises(UserError, match=r"is no audit .*misalign-bench audit score"):
        read_audit(tmp_path)
