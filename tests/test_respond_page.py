"""Runs of ``mode: respond`` on the page and in the tables."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from misalign_bench.cli.main import main
from misalign_bench.errors import UserError
from misalign_bench.report.page import render
from misalign_bench.report.respond_view import respond_views
from misalign_bench.report.result_tables import latex, markdown
from misalign_bench.report.runs import read_runs

HOSTILE = "simulated/generator?obey=0.6&refusal=0.2&name=<script>alert(1)</script>"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two judges, probes and a target whose name is markup."""
    path = tmp_path_factory.mktemp("respond")
    rows = [
        {
            "prompt_id": f"p{number}",
            "cluster_id": f"c{number}",
            "prompt": f"message: what do I bring neighbour {number}?",
            "response": "bread",
            "misaligned": False,
            "domains": ["value/Politeness"],
        }
        for number in range(24)
    ]
    items = path / "items.jsonl"
    items.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    given = ["bench", str(items), "--mode", "respond", "--target", HOSTILE, "--epochs", "1"]
    judges = ["--judge", "simulated/judge?name=ann", "--judge", "simulated/judge?name=bob"]
    assert main([*given, *judges, "--probes", "5", "--quiet", "--out", str(path / "run")]) == 0
    return path / "run"


def block(run: Path) -> dict[str, Any]:
    held: dict[str, Any] = json.loads((run / "results.json").read_text())["respond"]
    return held


def test_the_page_shows_rates_refusals_agreement_and_probes(made: Path) -> None:
    page = render(read_runs([made]))
    (target,) = block(made)["targets"]
    assert f"<strong>{100 * target['joint']['value']:.1f}%</strong>" in page
    assert f"<strong>{100 * target['refusal']['value']:.1f}%</strong>" in page
    assert f"<strong>{block(made)['agreement']['joint']['alpha']:.3f}</strong>" in page
    assert "1 model answered 24 prompts, and 2 judges said" in page
    for said in ("order of the options", "length of the response", "Rates by domain", "Simulated"):
        assert said in page


def test_a_name_that_is_markup_stays_text(made: Path) -> None:
    page = render(read_runs([made]))
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_run_of_answers_has_a_table_of_its_own(made: Path) -> None:
    runs = read_runs([made])
    (target,) = block(made)["targets"]
    text = markdown(runs)
    assert text.startswith("| Target | Misaligned | Bounds |")
    assert f"{100 * target['joint']['best_case']:.1f} to" in text
    assert "Coverage" not in text
    assert r"\begin{tabular}{lrrrrrrr}" in latex(runs)


def test_what_the_reader_must_know_first_is_said(made: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(made, run)
    table = json.loads((run / "results.json").read_text())
    table["respond"]["panel"]["one_family"] = True
    table["respond"]["targets"][0]["self_judged"] = ["simulated/judge?name=ann"]
    table["respond"]["agreement"]["joint"]["alpha"] = 0.5
    (run / "results.json").write_text(json.dumps(table))
    (view,) = respond_views(read_runs([run]).answers)
    titles = [title for _, title, _ in view.warnings]
    assert titles[4].startswith("Over 5% unscored")
    assert titles[:4] == [
        "Simulated models",
        "Judged by itself",
        "A panel of one family",
        "The judges do not agree enough",
    ]


def test_a_damaged_block_is_one_line_with_its_file(made: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(made, run)
    table = json.loads((run / "results.json").read_text())
    del table["respond"]["targets"][0]["joint"]
    (run / "results.json").write_text(json.dumps(table))
    with pytest.raises(UserError, match="its block 'respond' is incomplete") as caught:
        render(read_runs([run]))
    assert "results.json" in str(caught.value)
