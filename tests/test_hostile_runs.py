"""Whole runs against a hostile endpoint: what passes leaves no trace, what stays is counted.

Builds and benches over real HTTP with a seeded mix of faults, compared byte for byte with a run
against a server in order; then faults that stay, and faults that end the run, by the command.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from builds import data_set
from hostile_endpoint import Hostile, Schedule, mixed, never, planted
from hostile_faults import FINAL, PASSING, STOPPING
from hostile_runs import (
    CHEAP,
    HEAVY,
    ITEMS,
    QUICK,
    SHARE,
    bench,
    build,
    configured,
    dropped,
    pairs,
    results,
    verdicts,
)
from loopback import Body
from misalign_bench.journal.store import Journal
from misalign_bench.llm import client
from test_hostile_endpoint import UNSCORED_AS

pytestmark = pytest.mark.attack


@pytest.fixture(autouse=True, scope="module")
def _no_waiting() -> Any:
    """Retries come at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "Backoff", lambda: QUICK)
        yield


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build and a bench against a server in order."""
    folder = tmp_path_factory.mktemp("calm")
    with Hostile() as server:
        config = configured(folder, server)
        assert build(config) == 0
        assert bench(config) == 0
    return folder


# --- faults that pass


@pytest.mark.parametrize("seed", [1, 2])
def test_under_a_mix_of_passing_faults_a_build_writes_the_same_bytes(
    calm: Path, tmp_path: Path, seed: int
) -> None:
    with Hostile(mixed(seed, SHARE, CHEAP)) as server:
        assert build(configured(tmp_path, server)) == 0
    assert data_set(tmp_path / "build") == data_set(calm / "build")
    injected = sum(server.faults.values())
    assert 0.1 < injected / server.calls < 0.3
    with Journal.open(tmp_path / "build" / "journal.sqlite", read_only=True) as journal:
        assert len(list(journal.attempts())) == injected


def test_under_a_mix_of_passing_faults_a_bench_gives_the_same_numbers(
    calm: Path, tmp_path: Path
) -> None:
    with Hostile(mixed(8, SHARE, PASSING.keys() - HEAVY)) as server:
        assert bench(configured(tmp_path, server, deadline=1.0)) == 0
    assert sum(server.faults.values()) > 4
    assert results(tmp_path) == results(calm)
    same = "verdicts.parquet"
    assert (tmp_path / "bench" / same).read_bytes() == (calm / "bench" / same).read_bytes()


# --- faults that stay


def test_unscored_verdicts_are_the_planted_ones_and_every_other_row_is_the_same(
    calm: Path, tmp_path: Path
) -> None:
    by_words = {f"guest {number:03d}": fault for number, fault in enumerate(FINAL)}
    mix = mixed(4, SHARE, CHEAP)
    plan = planted(by_words)

    def schedule(body: Body, before: int) -> str:
        return plan(body, before) or mix(body, before)

    with Hostile(schedule) as server:
        assert bench(configured(tmp_path, server)) == 0
    found, before = verdicts(tmp_path), verdicts(calm)
    hit = {f"item-{number}": fault for number, fault in enumerate(FINAL)}
    for (item, dimension), row in found.items():
        if item in hit:
            assert (row["verdict"], row["reason"]) == ("unscored", UNSCORED_AS[hit[item]])
        else:
            assert row == before[item, dimension]
    assert found.keys() == before.keys()
    (target,) = results(tmp_path)["targets"]
    joint = target["conditions"][0]["joint"]
    names = ("coverage", "false_failure_rate")
    lost = sum((Counter(joint[name]["unscored"]) for name in names), Counter[str]())
    assert lost == Counter(UNSCORED_AS.values())


def test_dropped_rows_are_the_planted_ones_and_every_other_pair_is_the_same(
    calm: Path, tmp_path: Path
) -> None:
    def schedule(body: Body, before: int) -> str:
        text = json.dumps(body["messages"])
        if "cousin number 2 " in text and body["model"] == "classifier":
            return "truncated verdict"
        if "cousin number 5 " in text and body["model"] == "generator-one":
            return "content_filter"
        return mixed(5, SHARE, CHEAP)(body, before)

    with Hostile(schedule) as server:
        assert build(configured(tmp_path, server)) == 0
    lost = {name: why for name, why in dropped(tmp_path).items() if dropped(calm).get(name) != why}
    assert Counter(lost.values()) == {("classify", "parse"): 1, ("resample", "draws_spent"): 1}
    gone = {name.partition(":")[0] for name in lost}
    kept = {name: row for name, row in pairs(calm).items() if name[0] not in gone}
    assert kept
    assert {name: row for name, row in pairs(tmp_path).items() if name[0] not in gone} == kept


@pytest.mark.parametrize("fault", ["503", "reset in mid body", "400 of no known kind"])
def test_exhausted_retries_leave_rows_pending_until_they_are_answered_or_closed(
    calm: Path, tmp_path: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Hostile(planted({"guest 003": fault, "guest 010": fault})) as server:
        config = configured(tmp_path, server, retries=1)
        assert bench(config) == 3
        said = capsys.readouterr()
        assert said.out == ""
        (line,) = said.err.splitlines()
        assert "2 verdicts have no answer yet" in line
        assert "--accept-failures" in line
        assert not (tmp_path / "bench" / "results.json").exists()
        assert not (tmp_path / "bench" / "verdicts.parquet").exists()
        assert bench(config, "--accept-failures") == 0
        closed = verdicts(tmp_path)
        calls = server.calls
        server.schedule = never
        assert bench(config) == 0
        assert verdicts(tmp_path) == closed
        assert server.calls == calls
        assert bench(config, "--retry-failed") == 0
        assert server.calls == calls + 2
    lost = {name: row["reason"] for name, row in closed.items() if row["verdict"] == "unscored"}
    assert {item for item, _ in lost} == {"item-3", "item-10"}
    assert set(lost.values()) == {"transport"}
    assert verdicts(tmp_path) == verdicts(calm)


# --- faults that end the run


def after(calls: int, name: str) -> Schedule:
    """In order for so many calls, and then never again."""
    made = 0

    def schedule(_: Body, __: int) -> str:
        nonlocal made
        made += 1
        return name if made > calls else ""

    return schedule


@pytest.mark.parametrize("fault", STOPPING)
def test_a_fault_that_ends_the_run_is_one_line_and_the_rest_follows_once_it_is_mended(
    calm: Path, tmp_path: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Hostile(after(ITEMS // 2, fault)) as server:
        config = configured(tmp_path, server)
        assert bench(config, "--accept-failures") == 3
        said = capsys.readouterr()
        assert said.out == ""
        (line,) = said.err.splitlines()
        assert line.startswith("misalign-bench: ")
        assert line.endswith("run the same command again.")
        assert "Traceback" not in line
        assert not (tmp_path / "bench" / "results.json").exists()
        server.schedule, calls = never, server.calls
        assert bench(config) == 0
        assert server.calls - calls == ITEMS // 2
    assert verdicts(tmp_path) == verdicts(calm)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_build_without_a_server_ends_in_one_line(
    tmp_path: Path, scheme: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Hostile() as server:
        config = configured(tmp_path, server)
        config.write_text(config.read_text().replace("http://", f"{scheme}://"))
        if scheme == "http":
            server.__exit__(None, None, None)
        assert build(config) == 3
        if scheme == "http":
            server.__post_init__()
            server.__enter__()
    (line,) = capsys.readouterr().err.splitlines()
    assert "base URL" in line
    assert list((tmp_path / "build").rglob("*.parquet")) == []
