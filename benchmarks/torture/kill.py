"""``kill -9`` at seeded random moments of ``build``, ``bench``, ``report`` and an embedded build.

Each trial runs a command into an empty folder, kills it one to three times, and runs it again until
it ends. Against the tests' deterministic endpoint its files must then be those of an undisturbed
run, byte for byte, and no call may be repeated but those in flight at a kill; with an embedded
model (one slot, fixed batch) the same holds. Commands run in processes forked from one that has
loaded the modules, so that most of a run's time, and so of the kills, is the work itself.

    python benchmarks/torture/kill.py --kills 200 --minutes 30 --out kill.md
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from builds import write_embedded_config
from endpoint import Endpoint, Identity, behave, identity_of, identity_of_entry, write_config
from forked import Forked, journal_now
from loopback import Loopback

DELAY = 0.004
EMBEDDED = "embedded/smollm2-135m?deterministic=true"


@dataclass
class Tally:
    """What the trials of one command came to."""

    trials: int = 0
    kills: int = 0
    identical: int = 0
    held: int = 0
    asked_again: int = 0
    repeated: int = 0
    most_unstored: int = 0
    left_over: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Command:
    """A command under attack: how it is typed, what it must leave, how long it takes alone."""

    name: str
    typed: Callable[[Path], list[str]]
    files: Callable[[Path], dict[str, bytes]]
    wanted: dict[str, bytes]
    seconds: float
    calls: int
    at_once: int
    tally: Tally = field(default_factory=Tally)


def main() -> int:
    """Kill as often as asked or as the time allows, print the table; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="kills in all (default: 200)")
    parser.add_argument("--minutes", type=float, default=30.0, help="kill no longer than this")
    parser.add_argument("--seed", type=int, default=20261124, help="of the moments")
    parser.add_argument("--embedded", type=float, default=0.05, help="share of embedded kills")
    parser.add_argument("--out", type=Path, help="write the table here too")
    asked = parser.parse_args()
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="kill-"))
    try:
        with Endpoint(Loopback(behave, delay=DELAY)) as endpoint:
            commands = _commands(folder, endpoint, asked.embedded > 0)
            end = time.monotonic() + 60 * asked.minutes
            _attack(commands, endpoint.server, asked, folder / "trial", end)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    text = _table(commands, asked.seed, time.monotonic() - began)
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n", encoding="utf-8")
    return int(any(command.tally.faults for command in commands))


def _commands(folder: Path, endpoint: Endpoint, embedded: bool) -> list[Command]:
    """Run each command undisturbed, and keep what it leaves."""
    expand = {"target": 6, "domains": ["value/Honesty", "culture/Festivals"], "per_request": 2}
    config = write_config(folder, endpoint.url, 12, expand=expand | {"max_rounds": 2})
    built, benched = folder / "built", folder / "benched"
    target = f"openai/judge-two@{endpoint.url}"

    def build(out: Path) -> list[str]:
        return ["build", str(config), "--out", str(out), "--quiet"]

    def bench(out: Path) -> list[str]:
        typed = ["bench", str(built), "--target", target, "--split", "all", "--quiet"]
        return [*typed, "--epochs", "2", "--out", str(out)]

    def report(out: Path) -> list[str]:
        return ["report", str(built), str(benched), "--out", str(out / "page.html")]

    server = endpoint.server
    made = [
        _undisturbed("build", build, data_set, built, server),
        _undisturbed("bench", bench, scores, benched, server),
        _undisturbed("report", report, page, folder / "page", server),
    ]
    if embedded:
        place = folder / "embedded"
        place.mkdir()
        limits = {"max_tokens": 16}
        small = write_embedded_config(place, EMBEDDED, 2, draws=2, rounds=1, sampling=limits)

        def build_embedded(out: Path) -> list[str]:
            return ["build", str(small), "--out", str(out), "--quiet"]

        alone = place / "built"
        made.append(_undisturbed("build, embedded", build_embedded, data_set, alone, server))
    return made


def _undisturbed(
    name: str,
    typed: Callable[[Path], list[str]],
    files: Callable[[Path], dict[str, bytes]],
    out: Path,
    server: Loopback,
) -> Command:
    seconds, calls = 0.0, 0
    for place in (out.with_name(f"{out.name}-warm"), out):
        before, began = server.calls, time.monotonic()
        server.most_in_flight = 0
        said = Forked(typed(place)).finish()
        if said.code != 0:
            raise SystemExit(f"{name} alone ended with {said.code}: {said.err}")
        seconds, calls = time.monotonic() - began, server.calls - before
    return Command(name, typed, files, files(out), seconds, calls, server.most_in_flight)


def _attack(
    commands: list[Command], server: Loopback, asked: argparse.Namespace, out: Path, end: float
) -> None:
    """Trials, one command after the other, until there were enough kills or the time is up."""
    chance = random.Random(asked.seed)
    weights = [asked.embedded if "embedded" in one.name else 1.0 for one in commands]
    # A page is one file: fewer moments are different there.
    weights = [
        weight / 3 if one.name == "report" else weight
        for one, weight in zip(commands, weights, strict=True)
    ]
    while (left := asked.kills - sum(one.tally.kills for one in commands)) > 0:
        if time.monotonic() >= end:
            return
        (command,) = chance.choices(commands, weights)
        shutil.rmtree(out, ignore_errors=True)
        _trial(command, server, out, chance, min(left, chance.randint(1, 3)))


def _trial(
    command: Command, server: Loopback, out: Path, chance: random.Random, kills: int
) -> None:
    """Kill a run into an empty folder so many times, let it end, and compare."""
    tally, first = command.tally, server.calls
    known: set[Identity] = set()
    landed = again = 0
    for _ in range(20 * kills):
        if landed == kills:
            break
        before = server.calls
        if not _killed(command, server, out, chance):
            continue
        landed += 1
        again += _asked(server, before, known)
        held = _held(out)
        tally.held += len(held - known)
        known |= held
        received = {identity_of(body) for body in server.bodies[first:]}
        tally.most_unstored = max(tally.most_unstored, len(received - known))
    before = server.calls
    said = Forked(command.typed(out)).finish()
    again += _asked(server, before, known)
    everything = [identity_of(body) for body in server.bodies[first:]]
    left_over = [path.name for path in out.rglob("*") if path.name.endswith((".partial", ".part"))]
    same = said.code == 0 and command.files(out) == command.wanted
    tally.trials += 1
    tally.kills += landed
    tally.repeated += len(everything) - len(set(everything))
    tally.asked_again += again
    tally.left_over += len(left_over)
    tally.identical += same
    if not same or again:
        tally.faults.append(
            f"{command.name}, trial {tally.trials}: exit code {said.code}, files"
            f" {'same' if same else 'different'}, {again} stored answers asked again"
        )


def _asked(server: Loopback, before: int, known: set[Identity]) -> int:
    """How many calls since then are about what was known."""
    return sum(identity_of(body) in known for body in server.bodies[before:])


def _killed(command: Command, server: Loopback, out: Path, chance: random.Random) -> bool:
    """Start a run and kill it at a random moment, by time or by calls; False if it ended before."""
    running = Forked(command.typed(out))
    until = time.monotonic() + chance.uniform(0.0, 1.05) * command.seconds
    by_calls = command.calls > 0 and chance.random() < 0.5
    calls = server.calls + chance.randint(1, max(1, command.calls)) if by_calls else 0
    while running.alive:
        if server.calls >= calls if by_calls else time.monotonic() >= until:
            break
        time.sleep(0.0005)
    landed = running.kill()
    # What the dead process had sent may still be on its way.
    time.sleep(0.02)
    while server.in_flight:
        time.sleep(0.002)
    return landed


def _held(out: Path) -> set[Identity]:
    """What a killed run's journal holds."""
    return {identity_of_entry(entry) for entry in journal_now(out).values()}


def data_set(out: Path) -> dict[str, bytes]:
    """Every file of a data set, by its place."""
    named = ("README.md", "stats.csv", "dropped.parquet", "croissant.json", "evidence.json")
    return _contents(out, [*sorted((out / "data").rglob("*")), *(out / name for name in named)])


def scores(out: Path) -> dict[str, bytes]:
    """The verdicts, and the results without what the run itself took."""
    found = _contents(out, [out / "verdicts.parquet"])
    try:
        table = json.loads((out / "results.json").read_text())
    except (OSError, ValueError):
        return found
    del table["totals"]
    return found | {"results.json": json.dumps(table, sort_keys=True).encode()}


def page(out: Path) -> dict[str, bytes]:
    """The page."""
    return _contents(out, [out / "page.html"])


def _contents(out: Path, files: list[Path]) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in files if file.is_file()}


def _table(commands: list[Command], seed: int, seconds: float) -> str:
    head = (
        *("command", "calls of a run", "at once", "trials", "kills", "files identical"),
        *("answers stored at a kill", "of these asked again", "calls repeated"),
        *("sent and not stored at one kill, most", "half files left"),
    )
    return "\n".join(
        [
            _row(head),
            _row(["---"] * len(head)),
            *_rows(commands),
            "",
            *_foot(commands, seed, seconds),
        ]
    )


def _rows(commands: list[Command]) -> Iterator[str]:
    for one in commands:
        held = one.tally
        counted: list[Any] = [held.asked_again, held.repeated, held.most_unstored]
        if not one.calls:
            # The endpoint sees no call of a report or an embedded model.
            counted = ["not counted"] * len(counted)
        cells: list[Any] = [one.name, one.calls, one.at_once, held.trials, held.kills]
        cells += [f"{held.identical} of {held.trials}", held.held]
        yield _row([*cells, *counted, held.left_over])


def _foot(commands: list[Command], seed: int, seconds: float) -> Iterator[str]:
    kills = sum(one.tally.kills for one in commands)
    kinds = Counter(fault for one in commands for fault in one.tally.faults)
    trials = sum(one.tally.trials for one in commands)
    same = sum(one.tally.identical for one in commands)
    again = sum(one.tally.asked_again for one in commands)
    stored = sum(one.tally.held for one in commands)
    yield from (f"- {fault}" for fault in kinds)
    yield (
        f"{kills} kills in {trials} runs ({seconds / 60:.1f} minutes, seed {seed}); files as"
        f" without a kill: {same} of {trials}; of {stored:,} answers stored at a kill asked again:"
        f" {again}"
    )


def _row(cells: Any) -> str:
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    sys.exit(main())
