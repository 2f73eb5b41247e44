"""The second opinion: ``recompute_metrics.py`` finds the same numbers in ``verdicts.parquet``."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from misalign_bench.bench.detect import detect
from misalign_bench.bench.results import Setting, results, write_results
from misalign_bench.bench.verdicts import write_verdicts
from misalign_bench.llm.model import Failure
from misalign_bench.records import (
    DIMENSIONS,
    Answer,
    Dimension,
    Item,
    Reason,
    Unscored,
    Verdict,
)

SCRIPT = Path(__file__).parent / "recompute_metrics.py"
GENERATORS = ("openai/one", "openai/two")


class Guesser:
    """Answers by a seeded guess; one answer in eight is missing, for one of three reasons."""

    framing = "violates"
    thresholds: Mapping[Dimension, float] | None = None

    def __init__(self, name: str, deterministic: bool) -> None:
        self.name = self.weights = name
        self.deterministic = deterministic

    async def verdict(
        self, *, prompt: str, response: str, dimensions: tuple[Dimension, ...], epoch: int
    ) -> Verdict | Failure:
        draw = random.Random(f"{self.name} {response} {dimensions} {epoch}")
        if draw.random() < 0.03:
            return Failure("timeout", "gave up", terminal=True)
        answers: dict[Dimension, Answer | Unscored] = {
            dimension: Unscored(draw.choice([Reason.PARSE, Reason.REFUSAL]))
            if draw.random() < 0.1
            else Answer(draw.random() < (0.4 if "bad" in response else 0.15))
            for dimension in dimensions
        }
        return Verdict(answers)


def dataset() -> list[Item]:
    """60 prompts in 40 clusters, two generators, both kinds, some truth unknown."""
    draw = random.Random(3)
    items = []
    for number in range(60):
        active = tuple(name for name in DIMENSIONS if draw.random() < 0.6) or DIMENSIONS[:1]
        domains = tuple(
            f"{name}/{letter}" for name in active for letter in draw.choice(["a", "ab"])
        )
        for generator in GENERATORS:
            for misaligned in (False, True):
                truths = [True, False, None] if misaligned else [False, False, False, None]
                violated: Any = {name: draw.choice(truths) for name in DIMENSIONS}
                name = f"{number}:{generator}:{'bad' if misaligned else 'good'}"
                items.append(
                    Item(
                        item_id=name,
                        prompt_id=str(number),
                        cluster_id=str(number % 40),
                        prompt=f"prompt {number}",
                        response=name,
                        misaligned=misaligned,
                        active=active,
                        intended=active[:1],
                        intended_domains=tuple(one for one in domains if one.startswith(active[0])),
                        violated=violated | ({active[0]: True} if misaligned else {}),
                        domains=domains,
                        generator=generator,
                    )
                )
    return items


def bench(folder: Path, grain: Any) -> dict[str, Any]:
    """Run two targets, one of which wrote half of the items, under two conditions."""
    items = dataset()
    targets = [Guesser("openai/two", deterministic=False), Guesser("openai/t", deterministic=True)]
    found = asyncio.run(detect(items, targets, ["joint", "value"], epochs=3))
    setting = Setting("simulated", "hash", grain=grain, resamples=50, simulated=True)
    table = results(items, found, setting)
    write_results(folder / "results.json", table)
    write_verdicts(folder / "verdicts.parquet", items, found.measurements)
    return table


def recompute(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), str(folder)], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("grain", ["pair", "paper"])
def test_another_program_finds_the_same_numbers(tmp_path: Path, grain: str) -> None:
    table = bench(tmp_path, grain)
    joint = table["targets"][0]["conditions"][0]
    assert joint["own_items"]["coverage"]["n"] > 0
    assert set(joint["joint"]["coverage"]["unscored"]) == {"parse", "refusal", "transport"}
    assert joint["dimension"]["culture"]["coverage"]["unknown"] > 0
    assert 0 < joint["verdict_flips"]["joint"]["value"] < 1
    assert len({row["alignment_score"] for row in joint["per_epoch"]}) == 3
    assert table["targets"][0]["conditions"][1]["against_joint"]["alignment_score"]["low"]
    assert table["targets"][1]["conditions"][0]["verdict_flips"] == {}
    said = recompute(tmp_path)
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout == "4 measurements recomputed, no difference\n"


@pytest.mark.parametrize(
    "place",
    [
        ("joint", "coverage", "value"),
        ("dimension", "value", "innocent", "scored_only"),
        ("domain", "safety/a", "alignment_score", "best_case"),
        ("own_items", "false_failure_rate", "n"),
        ("right_dimension", "value"),
        ("per_epoch", 1, "coverage"),
        ("between_epochs", "alignment_score"),
        ("verdict_flips", "joint", "value"),
        ("verdict_flips", "culture", "n"),
    ],
)
def test_another_program_notices_a_changed_number(tmp_path: Path, place: tuple[Any, ...]) -> None:
    table = bench(tmp_path, "pair")
    cell = table["targets"][0]["conditions"][0]
    for key in place[:-1]:
        cell = cell[key]
    cell[place[-1]] += 1e-9
    (tmp_path / "results.json").write_text(json.dumps(table))
    said = recompute(tmp_path)
    assert said.returncode == 1
    assert "/".join(map(str, place)) in said.stdout
