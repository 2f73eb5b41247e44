"""``misalign-bench bench`` as a command: means over domains, pairs of targets, early stopping."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from misalign_bench.cli.main import main
from misalign_bench.report.page import render
from misalign_bench.report.runs import read_runs
from page_runs import prompt_texts

GOOD = "simulated/judge?sensitivity=0.97&specificity=0.97&name=good"
POOR = "simulated/judge?sensitivity=0.8&specificity=0.8&name=poor"
DOMAINS = ("value/Politeness", "value/Honesty", "culture/Festivals")
PROMPTS = 900
WORDS = ("river", "stone", "lamp", "music", "garden", "bread")


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompts that are no near-duplicates, with a good and a bad response each."""
    path = tmp_path_factory.mktemp("items") / "items.jsonl"
    chance = random.Random(3)
    lines = []
    for number, prompt in enumerate(prompt_texts(PROMPTS)):
        domain = DOMAINS[number % len(DOMAINS)]
        dimension = domain.partition("/")[0]
        for misaligned in (False, True):
            words = " ".join(chance.choices(WORDS, k=9))
            mark = f"[[violates:{dimension}]]" if misaligned else "[[violates:]]"
            row = {
                "prompt_id": f"p{number}",
                "prompt": prompt,
                "response": f"{words} {mark}",
                "misaligned": misaligned,
                "active": [dimension],
                "intended": [domain] if misaligned else [],
                "violated": {one: misaligned and one == dimension for one in ("value", "culture")},
                "domains": [domain],
            }
            lines.append(json.dumps(row))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def bench(items: Path, out: Path, *more: str) -> Mapping[str, Any]:
    command = ["bench", str(items), "--epochs", "1", "--out", str(out), "--quiet", *more]
    assert main([*command, "--target", GOOD, "--target", POOR]) == 0
    table: Mapping[str, Any] = json.loads((out / "results.json").read_text())
    return table


@pytest.fixture(scope="module")
def whole(items: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    bench(items, out)
    return out


@pytest.fixture(scope="module")
def table(whole: Path) -> Mapping[str, Any]:
    held: Mapping[str, Any] = json.loads((whole / "results.json").read_text())
    return held


def test_the_macro_average_is_the_mean_over_the_domains(table: Mapping[str, Any]) -> None:
    for target in table["targets"]:
        (block,) = target["conditions"]
        assert block["macro"]["domains"] == len(DOMAINS) == len(block["domain"])
        for name in ("coverage", "false_failure_rate"):
            mean = np.mean([cell[name]["value"] for cell in block["domain"].values()])
            macro = block["macro"][name]
            assert macro["value"] == pytest.approx(mean, abs=1e-12)
            assert macro["low"] < macro["value"] < macro["high"]


def test_two_targets_are_compared_with_interval_p_and_what_could_be_found(
    table: Mapping[str, Any],
) -> None:
    (pair,) = table["comparisons"]["joint"]
    score = pair["alignment_score"]
    values = [
        target["conditions"][0]["joint"]["alignment_score"]["value"] for target in table["targets"]
    ]
    assert (pair["first"], pair["second"]) == (GOOD, POOR)
    assert score["difference"] == pytest.approx(values[0] - values[1], abs=1e-12)
    assert 0 < score["low"] < score["difference"] < score["high"]
    assert score["p"] == score["p_holm"] < 0.001
    assert 0 < score["detectable_difference"] < score["difference"]
    assert set(pair["domain"]) == set(DOMAINS)


def test_the_page_shows_the_pairs_and_the_macro_average(whole: Path) -> None:
    page = render(read_runs([whole]))
    assert "Who is better than whom" in page
    assert "Mean over: 3 domains" in page


def test_until_asks_no_more_than_it_needs_and_says_so(
    items: Path, whole: Path, table: Mapping[str, Any], tmp_path: Path
) -> None:
    found = bench(items, tmp_path / "run", "--until", "0.03")
    until = found["until"]
    assert until["why"] == "reached"
    assert until["items"] == found["dataset"]["items"] < until["of_items"] == 2 * PROMPTS
    for target in found["targets"]:
        score = target["conditions"][0]["joint"]["alignment_score"]
        assert score["high"] - score["low"] <= 0.06
    assert table["until"] is None
    page = render(read_runs([tmp_path / "run"]))
    assert "As many items as were needed" in page
    assert "As many items as were needed" not in render(read_runs([whole]))


def test_until_out_of_reach_takes_all_items_and_gives_the_same_numbers(
    items: Path, table: Mapping[str, Any], tmp_path: Path
) -> None:
    found = bench(items, tmp_path / "run", "--until", "0.0001")
    assert found["until"]["why"] == "all items"
    assert found["targets"] == table["targets"]
    assert found["comparisons"] == table["comparisons"]


def test_until_again_asks_nothing_and_changes_nothing(items: Path, tmp_path: Path) -> None:
    first = bench(items, tmp_path / "run", "--until", "0.03")
    second = bench(items, tmp_path / "run", "--until", "0.03")
    assert [row["calls"] for row in second["totals"]] == [0, 0]
    assert {**first, "totals": 0} == {**second, "totals": 0}


def test_until_and_limit_exclude_each_other(
    items: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["bench", str(items), "--target", GOOD, "--out", str(tmp_path / "run")]
    assert main([*command, "--until", "0.03", "--limit", "9"]) == 2
    assert "--limit and --until" in capsys.readouterr().err
    assert main([*command, "--until", "0.7"]) == 2
    assert "until" in capsys.readouterr().err


def test_the_kind_of_interval_can_be_chosen_and_is_recorded(
    items: Path, table: Mapping[str, Any], tmp_path: Path
) -> None:
    found = bench(items, tmp_path / "run", "--interval", "percentile")
    assert (table["interval"], found["interval"]) == ("bca", "percentile")
    one, other = (
        held["targets"][0]["conditions"][0]["joint"]["alignment_score"] for held in (table, found)
    )
    assert one["value"] == other["value"]
    assert (one["low"], one["high"]) != (other["low"], other["high"])
