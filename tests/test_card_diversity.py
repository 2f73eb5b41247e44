"""The card says how varied the prompts are that expansion added."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from endpoint import write_prompts
from misalign_bench.cli.main import main


@pytest.mark.parametrize("enabled", [True, False])
def test_the_card_and_the_evidence_hold_the_diversity_of_what_was_added(
    enabled: bool, tmp_path: Path
) -> None:
    write_prompts(tmp_path / "prompts.csv", 6)
    table = {
        "source": {"path": "prompts.csv"},
        "roles": {
            "classifier": "simulated/classifier",
            "expander": "simulated/expander",
            "generators": ["simulated/generator"],
            "evaluator": "simulated/judge",
        },
        "classify": {"method": "joint"},
        "expand": {"enabled": enabled, "target": 5, "domains": ["culture/Festivals"]},
        "respond": {"draws": 1, "rounds": 0},
        "judge": {"method": "structured"},
    }
    config, out = tmp_path / "run.yaml", tmp_path / "out"
    config.write_text(yaml.safe_dump(table))
    assert main(["build", str(config), "--out", str(out), "--quiet"]) == 0
    held = json.loads((out / "evidence.json").read_text())["diversity"]
    card = (out / "README.md").read_text()
    assert ("How varied the added prompts are" in card) is enabled
    assert [row["domain"] for row in held] == (["culture/Festivals"] if enabled else [])
    if enabled:
        (row,) = held
        assert row["added"]["prompts"] > 0
        assert f"| culture/Festivals | added | {row['added']['prompts']} |" in card
        # Every simulated prompt opens with the same words.
        assert row["added"]["same_opening"] == 1.0
        assert "|  | before | " in card
