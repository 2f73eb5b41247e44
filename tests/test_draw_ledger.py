"""The ledger of rejection sampling: every draw in the journal is counted once, by how it ended."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from builds import CONFIGURATION, run_build
from endpoint import write_prompts
from misalign_bench.build.draw_ledger import COUNTS, PairCost, draw_ledger, pair_costs
from misalign_bench.cli.main import main
from misalign_bench.config_file import load
from misalign_bench.errors import UserError
from misalign_bench.journal.store import Entry, Journal
from misalign_bench.records import KINDS, Dropped
from misalign_bench.report.build_ledger import ledger

Row = dict[str, str]


def configured(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_prompts(folder / "prompts.csv", 12)
    roles = {
        "classifier": "simulated/classifier",
        "generators": ["simulated/generator?name=one&obey=0.6&refusal=0.2", "simulated/generator"],
        "evaluator": "simulated/judge?sensitivity=0.8&specificity=0.8",
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump({**CONFIGURATION, "roles": roles, **changes}))
    return path


def rows_of(out: Path) -> list[Row]:
    with (out / "draws.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def entries(out: Path, role: str) -> list[Entry]:
    with Journal.open(out / "journal.sqlite", read_only=True) as journal:
        return list(journal.entries(role=role))


@pytest.fixture(scope="module", params=["first", "all"])
def out(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished build, its draws accepted as they come or chosen among all."""
    folder = tmp_path_factory.mktemp("ledger")
    config = configured(folder, respond={"draws": 2, "rounds": 1, "accept": request.param})
    assert main(["build", str(config), "--out", str(folder / "out"), "--quiet"]) == 0
    return folder / "out"


def test_every_draw_in_the_journal_is_counted_once(out: Path) -> None:
    counted = {
        (row["generator"], row["kind"], int(row["round"])): int(row["drawn"])
        for row in rows_of(out)
        if not row["domain"]
    }
    asked = Counter(
        (entry.model, "misaligned" if "_misaligned" in entry.template else "aligned", entry.round)
        for entry in entries(out, "generator")
    )
    assert counted == asked
    assert {place[1] for place in asked} == set(KINDS)


def test_accepted_draws_are_the_responses_of_the_data_set(out: Path) -> None:
    pairs = [
        row for file in out.glob("data/pairs/*.parquet") for row in pq.read_table(file).to_pylist()
    ]
    given_up = pq.read_table(out / "dropped.parquet").to_pylist()
    total: Counter[str] = Counter()
    for row in rows_of(out):
        if not row["domain"]:
            total.update({name: int(row[name]) for name in COUNTS})
    spent = [row for row in given_up if row["reason"] == "draws_spent"]
    # An aligned response is accepted and then lost if no misaligned one is found, and with
    # ``all`` the other way round too.
    assert 2 * len(pairs) <= total["accepted"] <= 2 * len(pairs) + len(spent)
    assert len(spent) <= total["given_up"] <= 2 * len(spent)
    assert pairs
    assert spent


def test_a_draw_ends_in_one_of_four_ways(out: Path) -> None:
    for row in rows_of(out):
        ways = ("accepted", "rejected_by_rule", "rejected_by_verdict", "passed_over")
        assert int(row["drawn"]) == sum(int(row[way]) for way in ways)
    reasons = {name for row in rows_of(out) for name in COUNTS if int(row[name])}
    assert {"refusal", "violates_value", "keeps_value"} <= reasons


def test_prompts_count_in_each_of_their_domains(out: Path) -> None:
    labels: dict[str, int] = {}
    for file in out.glob("data/pairs/*.parquet"):
        for row in pq.read_table(file, columns=["aligned_key", "domains"]).to_pylist():
            labels[row["aligned_key"]] = len(row["domains"])
    everything = [row for row in rows_of(out) if row["domain"] and row["kind"] == "aligned"]
    assert sum(int(row["accepted"]) for row in everything) >= sum(labels.values()) > len(labels)


async def test_a_pair_costs_what_all_draws_and_verdicts_took(tmp_path: Path) -> None:
    journal = tmp_path / "journal.sqlite"
    built, usage = await run_build(load(configured(tmp_path)), journal)
    with Journal.open(journal, read_only=True) as opened:
        costs = pair_costs(built.outcomes, opened.get)
        unpriced = pair_costs(built.outcomes, lambda key: without_price(opened, key))
    drawn = [used for (role, _), used in usage.items() if role == "generator"]
    judged = [used for (role, _), used in usage.items() if role == "evaluator"]
    assert sum(one.draws for one in costs) == sum(used.calls for used in drawn)
    assert sum(one.verdicts for one in costs) == sum(used.calls for used in judged)
    assert sum(one.draw_tokens for one in costs) == sum(
        used.input_tokens + used.output_tokens for used in drawn
    )
    assert sum(one.pairs for one in costs) == len(built.pairs)
    assert all(one.cost == 0.0 for one in costs)
    assert all(one.cost is None for one in unpriced)


def without_price(journal: Journal, key: str) -> Entry | None:
    from dataclasses import replace

    held = journal.get(key)
    return replace(held, cost=None) if held else None


def test_nothing_is_divided_by_no_pairs() -> None:
    assert PairCost("a", 0, 6, 100, 6, 200, 1.0).per_pair() is None
    assert PairCost("a", 2, 6, 100, 4, 300, 1.0).per_pair() == (5.0, 200.0, 0.5)


async def test_what_is_given_up_stands_in_its_last_round(tmp_path: Path) -> None:
    roles = {
        "classifier": "simulated/classifier",
        "generators": ["simulated/generator?obey=0"],
        "evaluator": "simulated/judge?sensitivity=1&specificity=1",
    }
    built, _ = await run_build(load(configured(tmp_path, roles=roles)), tmp_path / "journal.sqlite")
    lost = [one for one in built.outcomes if isinstance(one.result, Dropped)]
    overall = [row for row in draw_ledger(built.outcomes) if not row.domain]
    by_round = {row.round: row.counts[COUNTS.index("given_up")] for row in overall}
    assert by_round == {0: 0, 1: len(lost)}
    assert len(lost) == len(built.outcomes)


def test_the_card_and_the_page_show_the_ledger(out: Path) -> None:
    card = (out / "README.md").read_text()
    shown = ledger(out)
    assert [row.draws for row in shown] == [
        int(row["drawn"]) for row in rows_of(out) if not row["domain"]
    ]
    first = shown[0]
    assert f"| aligned | {first.round} | {first.draws} | {first.accepted} |" in card
    assert "tokens a pair" in card


def test_a_damaged_ledger_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "draws.csv").write_text("dimension,domain,generator\n,,x\n")
    with pytest.raises(UserError, match="no ledger of draws"):
        ledger(tmp_path)
