"""``misalign-bench plan``: what a build will take, before its first call.

Calls, tokens, cost and time by role and model, each from the best case to the worst; what the build
then really takes lies inside. No language model is loaded or asked.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from misalign_bench.build.plan_bounds import Range
    from misalign_bench.build.plan_table import Plan, Planned
    from misalign_bench.config import RunSettings

NAME = "plan"
HELP = "say what a build will take before its first call"

_COLUMNS = ("role", "model", "calls", "input tokens", "output tokens", "cost", "time under way")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments, those of ``build`` that change what it takes."""
    parser.add_argument("config", metavar="CONFIG", help="a YAML file, or default, paper, demo")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="a run folder: count what its journal holds already"
    )
    parser.add_argument(
        "--source", type=Path, metavar="FILE", help="prompts, in place of source.path"
    )
    parser.add_argument("--prompt-column", metavar="NAME", help="the column that holds the prompt")
    parser.add_argument("--limit", type=int, metavar="N", help="use the first N rows only")
    parser.add_argument(
        "--no-new-draws", action="store_true", help="plan a build that draws no response"
    )
    parser.add_argument(
        "--accept-failures", action="store_true", help="plan a build that closes unanswered rows"
    )
    parser.add_argument("--max-cost", type=float, metavar="USD", help="the budget of the build")
    parser.add_argument("--max-calls", type=int, metavar="N", help="the budget of the build")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Plan and print."""
    from misalign_bench.cli.build import overridden
    from misalign_bench.cli.render import json_out
    from misalign_bench.config_file import load

    settings = overridden(load(arguments.config), arguments)
    made = planned(settings, arguments)
    if arguments.json:
        json_out(made.as_table())
    else:
        print_plan(made)
    return 0


def planned(settings: RunSettings, arguments: argparse.Namespace) -> Plan:
    """The plan, with the journal of the run folder if there is one."""
    from misalign_bench.build.plan import plan
    from misalign_bench.cli.running import embedders, fetch_weights
    from misalign_bench.journal.folder import JOURNAL
    from misalign_bench.journal.store import Journal

    fetch_weights(embedders(settings), quiet=arguments.json)
    options = {
        "no_new_draws": arguments.no_new_draws,
        "accept_failures": arguments.accept_failures,
    }
    path = arguments.out / JOURNAL if arguments.out else None
    if path is None or not path.is_file():
        return asyncio.run(plan(settings, **options))
    with Journal.open(path, read_only=True) as journal:
        return asyncio.run(plan(settings, journal=journal, **options))


def print_plan(made: Plan) -> None:
    """Print a plan as a table with a line about prompts before it and the totals after it."""
    from misalign_bench.cli.render import plain, table
    from misalign_bench.report.duration import duration

    found = made.found
    print(
        f"{_count(found['prompts'])} prompts of {_count(found['rows'])} rows, "
        f"{_count(found['expanded'])} added, {_count(found['answered'])} answered, "
        f"{_count(found['pairs'])} pairs"
    )
    table([_row(row) for row in made.rows], _COLUMNS)
    total = made.total
    clock = "unknown" if made.clock is None else _ends(made.clock, duration)
    print(f"in all: {_count(total.calls)} calls, cost {_cost(total.cost)}, {clock} by the clock")
    if total.first_in_journal is not None:
        print(
            f"of {total.first:,} calls that come first, {total.first_in_journal:,} are in the "
            "journal and will not be made again"
        )
    for note in made.notes:
        print(plain(note))


def _row(row: Planned) -> list[str]:
    from misalign_bench.report.duration import duration

    figures = [_count(row.calls), _count(row.input_tokens), _count(row.output_tokens)]
    time = "unknown" if row.seconds is None else _ends(row.seconds, duration)
    return [row.role, row.model, *figures, _cost(row.cost), time]


def _count(held: Range) -> str:
    return _ends(held, lambda number: f"{number:,.0f}")


def _cost(held: Range | None) -> str:
    return "unknown" if held is None else _ends(held, lambda dollars: f"${dollars:,.4f}")


def _ends(held: Range, shown: Callable[[float], str]) -> str:
    """Both ends as text, or one text if they are shown alike."""
    low, high = shown(held.low), shown(held.high)
    return low if low == high else f"{low} to {high}"
