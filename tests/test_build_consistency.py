"""A build asks for a sample of its verdicts twice, says how many change, and plans for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from endpoint import write_prompts
from misalign_bench.build.history import pair_histories
from misalign_bench.cli.main import main
from misalign_bench.journal.store import Journal
from misalign_bench.judge.consistency import SWAPPED_MARK


def built(folder: Path, sample: int, method: str) -> Path:
    write_prompts(folder / "prompts.csv", 8)
    table: dict[str, Any] = {
        "source": {"path": "prompts.csv"},
        "roles": {
            "classifier": "simulated/classifier",
            "generators": ["simulated/generator"],
            "evaluator": "simulated/judge?sensitivity=0.8&specificity=0.8",
        },
        "classify": {"method": "joint"},
        "expand": {"enabled": False},
        "respond": {"draws": 2, "rounds": 1, "consistency_sample": sample},
        "judge": {"method": method, "threshold": 0.5},
    }
    config, out = folder / "run.yaml", folder / "out"
    config.write_text(yaml.safe_dump(table))
    assert main(["build", str(config), "--out", str(out), "--quiet"]) == 0
    return out


def entries(out: Path) -> list[Any]:
    with Journal.open(out / "journal.sqlite", read_only=True) as journal:
        return list(journal.entries(role="evaluator"))


@pytest.mark.parametrize("method", ["structured", "logprob"])
def test_sampled_verdicts_are_asked_for_in_the_other_order(tmp_path: Path, method: str) -> None:
    out = built(tmp_path, 5, method)
    swapped = [one for one in entries(out) if SWAPPED_MARK in one.template]
    assert len(swapped) == 5 * (1 if method == "structured" else 3)
    rate = json.loads((out / "evidence.json").read_text())["evaluator_consistency"]["joint"]
    assert rate["n"] == 5
    assert 0 <= rate["low"] <= rate["value"] <= rate["high"] <= 1
    said = f"the evaluator changed {rate['flips']} of 5 sampled verdicts"
    assert said in " ".join((out / "README.md").read_text().split())
    actual = json.loads((out / "plan.json").read_text())["actual"]
    assert {row["inside"] for row in actual if row["role"] == "evaluator"} <= {True, None}


def test_without_a_sample_nothing_is_asked_for_twice(tmp_path: Path) -> None:
    out = built(tmp_path, 0, "structured")
    assert not [one for one in entries(out) if SWAPPED_MARK in one.template]
    assert json.loads((out / "evidence.json").read_text())["evaluator_consistency"] is None


def test_the_history_of_a_pair_shows_only_the_verdicts_that_decided(tmp_path: Path) -> None:
    out = built(tmp_path, 99, "logprob")
    prompts = {
        row.prompt_id
        for file in (out / "data" / "pairs").glob("*.parquet")
        for row in pair_histories(out, _first_prompt(file))
    }
    assert prompts
    for prompt in prompts:
        for history in pair_histories(out, prompt):
            for draw in history.draws:
                assert len(draw.found.verdict) in (0, 3)


def _first_prompt(file: Path) -> str:
    import pyarrow.parquet as pq

    rows = pq.read_table(file).to_pylist()
    return str(rows[0]["prompt_id"]) if rows else ""
