"""Builds and benches against a hostile endpoint until the time is up; a markdown table at the end.

Each round has its own seed. First a build and a bench under a mix in which 20% of the calls fail in
a way that passes: their files must be those of a run against a server in order. Then a bench in
which every class of final fault is planted once on top of that mix: the unscored verdicts must be
the planted ones, every other row must be unchanged. Any difference is counted as lost or invented.
Run: ``python benchmarks/torture/hostile.py --minutes 10``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import resource
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from builds import data_set
from hostile_endpoint import Hostile, Schedule, mixed, planted
from hostile_faults import FINAL, HARMLESS, PASSING
from hostile_runs import QUICK, SHARE, bench, build, configured, results, verdicts
from loopback import Body
from misalign_bench.journal.store import Journal
from misalign_bench.llm import client

ENDLESS = {"stall past the deadline", "slow drip"}
HONEST = {name: act for name, act in HARMLESS.items() if name != "NaN in the usage"}
"""Without the one that changes token counts, which card and results show."""


@dataclass
class Tally:
    """What was done, and what was wrong."""

    rounds: int = 0
    calls: int = 0
    injected: Counter[str] = field(default_factory=Counter)
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def injections(self, server: Hostile, outcome: str) -> None:
        """Book the faults of a run that ended like this."""
        self.calls += server.calls
        self.injected.update(server.faults)
        for fault, count in server.faults.items():
            final = "one unscored verdict" if fault in FINAL else outcome
            self.outcomes.setdefault(fault, Counter())[final] += count


def passing_round(calm: Path, folder: Path, seed: int, tally: Tally) -> None:
    """A build and a bench under a mix of faults that pass."""
    # Those that only a deadline ends take a second each; every fourth round has them.
    names = (PASSING.keys() | HONEST.keys()) - (set() if seed % 4 == 0 else ENDLESS)
    deadline = 1.0 if seed % 4 == 0 else 60.0
    with Hostile(mixed(seed, SHARE, names)) as server:
        config = configured(folder, server, deadline=deadline)
        ended = (build(config), bench(config))
    same = "verdicts.parquet"
    if ended != (0, 0):
        tally.wrong.append(f"seed {seed}: exit codes {ended}")
    elif data_set(folder / "build") != data_set(calm / "build"):
        tally.wrong.append(f"seed {seed}: the data set differs")
    elif (folder / "bench" / same).read_bytes() != (calm / "bench" / same).read_bytes():
        tally.wrong.append(f"seed {seed}: {same} differs")
    elif results(folder) != results(calm):
        tally.wrong.append(f"seed {seed}: the results differ")
    tally.injections(server, "answered in the end")
    expected = sum(count for fault, count in server.faults.items() if fault in PASSING)
    recorded = sum(attempts(folder / part / "journal.sqlite") for part in ("build", "bench"))
    # A busy machine may miss a short deadline by itself.
    if recorded < expected or (recorded > expected and deadline > 1):
        tally.wrong.append(f"seed {seed}: {expected} faults, {recorded} attempts recorded")


def final_round(calm: Path, folder: Path, seed: int, tally: Tally) -> None:
    """A bench with one final fault of each class, on top of a mix."""
    hit = {f"item-{number}": fault for number, fault in enumerate(FINAL)}
    plan = planted({f"guest {number:03d}": fault for number, fault in enumerate(FINAL)})
    mix = mixed(seed, SHARE, PASSING.keys() - ENDLESS)

    with Hostile(both(plan, mix)) as server:
        ended = bench(configured(folder, server))
    if ended:
        tally.wrong.append(f"seed {seed}: exit code {ended}")
        return
    before = verdicts(calm)
    for (item, dimension), row in verdicts(folder).items():
        if (row["verdict"] == "unscored") != (item in hit):
            tally.wrong.append(f"seed {seed}: {item} is {row['verdict']}")
        elif item not in hit and row != before[item, dimension]:
            tally.wrong.append(f"seed {seed}: {item} changed")
    tally.injections(server, "answered in the end")


def both(plan: Schedule, mix: Schedule) -> Schedule:
    """What is planted, else what the mix draws."""

    def schedule(body: Body, before: int) -> str:
        return plan(body, before) or mix(body, before)

    return schedule


def attempts(journal: Path) -> int:
    """How many failed attempts a journal holds."""
    with Journal.open(journal, read_only=True) as held:
        return sum(1 for _ in held.attempts())


def torture(seconds: float) -> Tally:
    """Rounds until the time is up."""
    end, tally = time.monotonic() + seconds, Tally()
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
        root = Path(name)
        with Hostile() as server:
            config = configured(root / "calm", server)
            if (build(config), bench(config)) != (0, 0):
                raise SystemExit("the run against a server in order failed")
        while time.monotonic() < end or not tally.rounds:
            tally.rounds += 1
            seed = tally.rounds
            passing_round(root / "calm", root / f"passing-{seed}", seed, tally)
            final_round(root / "calm", root / f"final-{seed}", seed, tally)
    return tally


def table(tally: Tally) -> str:
    """The tally as markdown."""
    lines = ["| fault | injected | outcome |", "|---|---|---|"]
    for fault in [*PASSING, *HONEST, *FINAL]:
        said = ", ".join(f"{name}" for name in tally.outcomes.get(fault, ()))
        lines.append(f"| {fault} | {tally.injected[fault]:,} | {said or 'not drawn'} |")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    lines += ["", *(f"- {problem}" for problem in tally.wrong)]
    classes = sum(count > 0 for count in tally.injected.values())
    lines += [
        f"{tally.calls:,} calls, {sum(tally.injected.values()):,} faults of {classes} classes in"
        f" {tally.rounds} rounds; rows lost, invented or changed: {len(tally.wrong)};"
        f" most memory, client and server together: {memory:,.0f} MB",
    ]
    return "\n".join(lines)


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default: 10)")
    arguments = parser.parse_args()
    vars(client)["Backoff"] = lambda: QUICK
    tally = torture(60 * arguments.minutes)
    print(table(tally))
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
