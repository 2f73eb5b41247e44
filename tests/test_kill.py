"""``kill -9`` at any moment of a build loses nothing that was answered (contract, section 1).

Against a deterministic endpoint the data set comes out byte for byte as an undisturbed build writes
it; on an embedded model every answer in the journal at the kill is unchanged and not asked again.
"""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from operator import sub
from pathlib import Path
from typing import Any

import pytest

from builds import data_set, write_embedded_config
from endpoint import Endpoint, Identity, behave, identity_of, identity_of_entry, write_config
from forked import Forked, journal_now
from loopback import Loopback
from misalign_bench.errors import OutsideWorld
from misalign_bench.journal.store import Entry
from misalign_bench.llm import weights

pytestmark = pytest.mark.attack

KILLS = 10
BY_CALLS = 7
SMALL = "smollm2-135m"


def start(config: Path, out: Path) -> Forked:
    return Forked(["build", str(config), "--out", str(out), "--quiet", "--json"])


def finish(command: Forked) -> dict[str, Any]:
    """What the build printed when it came to its end undisturbed."""
    said = command.finish()
    assert (said.code, said.err) == (0, "")
    table: dict[str, Any] = json.loads(said.out)
    return table


def wait_for(happened: Callable[[], bool], command: Forked) -> None:
    """Return as soon as it happened; a build that ends before has failed the test."""
    end = time.monotonic() + 60
    while not happened():
        assert command.alive, command.said()
        assert time.monotonic() < end
        time.sleep(0.001)


@dataclass(frozen=True)
class Kill:
    """A kill: the answers in the journal then, and how many bodies the endpoint had received."""

    answers: dict[str, Entry]
    received: int


@dataclass(frozen=True)
class Story:
    """An undisturbed build and one that was killed again and again."""

    undisturbed: dict[str, bytes]
    replayed: dict[str, bytes]
    asked_by_replay: int
    disturbed: dict[str, bytes]
    folder: Path
    wanted: list[Identity]
    received: list[Identity]
    most_in_flight: int
    kills: list[Kill]
    end: dict[str, Entry]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("kill")
    expand = {"target": 6, "domains": ["value/Honesty", "culture/Festivals"], "per_request": 2}
    with Endpoint(Loopback(behave, delay=0.006)) as endpoint:
        server = endpoint.server
        config = write_config(folder, endpoint.url, 12, expand=expand | {"max_rounds": 2})
        finish(start(config, folder / "undisturbed"))
        undisturbed = data_set(folder / "undisturbed")
        wanted = [identity_of(body) for body in server.bodies]
        began = time.monotonic()
        asked_by_replay: int = finish(start(config, folder / "undisturbed"))["calls"]["asked"]
        seconds = time.monotonic() - began
        replayed = data_set(folder / "undisturbed")
        before = server.calls
        kills = list(killed(config, folder, server, len(wanted), seconds))
        finish(start(config, folder / "disturbed"))
        yield Story(
            undisturbed=undisturbed,
            replayed=replayed,
            asked_by_replay=asked_by_replay,
            disturbed=data_set(folder / "disturbed"),
            folder=folder / "disturbed",
            wanted=wanted,
            received=[identity_of(body) for body in server.bodies[before:]],
            most_in_flight=server.most_in_flight,
            kills=[Kill(one.answers, one.received - before) for one in kills],
            end=journal_now(folder / "disturbed"),
        )


def killed(
    config: Path, folder: Path, server: Loopback, calls: int, seconds: float
) -> Iterator[Kill]:
    """Kill builds into one folder, each time at another moment, until there were ten kills.

    Numbers of calls spread the moments over classification, expansion and pairs, files over the
    export; time reaches whatever is left.
    """
    out = folder / "disturbed"
    chance = random.Random(20260211)
    cuts = sorted(chance.sample(range(1, calls), BY_CALLS))
    moments = [partial(called, server, cut) for cut in map(sub, cuts, [0, *cuts])]
    moments += [partial(written, out, chance.randint(1, 8)), partial(written, out, 10)]
    landed = 0
    while landed < KILLS:
        command = start(config, out)
        if moments:
            wait_for(moments.pop(0)(), command)
            time.sleep(chance.uniform(0, 0.01))
        else:
            time.sleep(chance.uniform(0.3, 1.0) * seconds)
        if command.kill():
            landed += 1
            # What the dead process had sent may still be on its way through the socket.
            time.sleep(0.05)
            yield Kill(journal_now(out), server.calls)


def called(server: Loopback, more: int) -> Callable[[], bool]:
    """Whether so many more calls have come."""
    end = server.calls + more
    return lambda: server.calls >= end


def written(out: Path, files: int) -> Callable[[], bool]:
    """Whether so many tables are there (nine of the data, then ``stats.csv``)."""
    return lambda: len([*out.glob("data/*/*.parquet"), *out.glob("stats.csv")]) >= files


def test_a_rerun_over_a_finished_journal_asks_nothing_and_writes_the_same_bytes(
    story: Story,
) -> None:
    assert story.asked_by_replay == 0
    assert story.replayed == story.undisturbed


def test_ten_kills_leave_the_data_set_byte_for_byte_as_an_undisturbed_build(story: Story) -> None:
    assert len(story.kills) == KILLS
    assert sorted(story.disturbed) == sorted(story.undisturbed)
    changed = [name for name in story.disturbed if story.disturbed[name] != story.undisturbed[name]]
    assert changed == []
    assert sum(name.endswith(".parquet") for name in story.undisturbed) > 3


def test_the_kills_land_before_during_and_after_the_answers(story: Story) -> None:
    held = [len(one.answers) for one in story.kills]
    assert held == sorted(held)
    assert len(set(held)) >= BY_CALLS - 2
    assert held[0] < len(story.wanted) / 2
    assert held[-1] == len(story.wanted)


def test_no_call_that_is_in_the_journal_at_a_kill_is_made_again(story: Story) -> None:
    for one in story.kills:
        known = {identity_of_entry(entry) for entry in one.answers.values()}
        assert known.isdisjoint(story.received[one.received :])


def test_only_calls_in_flight_at_a_kill_are_repeated(story: Story) -> None:
    assert set(story.received) == set(story.wanted)
    repeats = len(story.received) - len(set(story.received))
    lost, began = 0, 0
    for one in story.kills:
        known = {identity_of_entry(entry) for entry in one.answers.values()}
        lost += len(set(story.received[began : one.received]) - known)
        began = one.received
    assert repeats == lost
    assert repeats <= KILLS * story.most_in_flight


def test_every_answer_in_the_journal_at_a_kill_is_unchanged_at_the_end(story: Story) -> None:
    for one in story.kills:
        assert one.answers == {key: story.end[key] for key in one.answers}
    assert len(story.end) == len(story.wanted)


def test_kills_leave_no_half_written_file_behind(story: Story) -> None:
    assert list(story.folder.rglob("*.partial")) == []
    manifest = json.loads((story.folder / "manifest.json").read_text())
    assert manifest["status"] == "done"
    # The other kills may come before a run has begun.
    assert manifest["runs"] > BY_CALLS


@pytest.fixture(scope="module")
def embedded_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2 in all roles over one prompt with published labels."""
    pytest.importorskip("xllamacpp", reason="the embedded engine is not installed")
    try:
        weights.get(SMALL)
    except OutsideWorld as error:
        pytest.skip(f"the weights of {SMALL} cannot be had: {error}")
    return write_embedded_config(
        tmp_path_factory.mktemp("embedded"),
        f"embedded/{SMALL}",
        prompts=1,
        draws=1,
        rounds=1,
        sampling={"max_tokens": 8},
    )


def test_kills_on_an_embedded_model_lose_no_answer_and_ask_none_again(
    embedded_config: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    held: list[dict[str, Entry]] = []
    chance = random.Random(5)
    for more in (chance.randint(1, 2), 4):
        command = start(embedded_config, out)
        wait_for(partial(stored, out, more), command)
        assert command.kill()
        held.append(journal_now(out))
        assert len(held[-1]) >= more
    said = finish(start(embedded_config, out))
    end = journal_now(out)
    for answers in held:
        # Equal in everything, the time of the answer included: replayed, not asked again.
        assert answers == {key: end[key] for key in answers}
    assert said["calls"]["asked"] == len(end) - len(held[-1]) > 0
    first = data_set(out)
    assert finish(start(embedded_config, out))["calls"]["asked"] == 0
    assert data_set(out) == first


def stored(out: Path, least: int) -> bool:
    return count(out) >= least


def count(out: Path) -> int:
    """How many answers a running build has stored so far."""
    path = out / "journal.sqlite"
    if not path.is_file():
        return 0
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            number: int = connection.execute("SELECT COUNT(*) FROM answers").fetchone()[0]
    except sqlite3.OperationalError:
        return 0  # the file is there before its tables are
    return number
