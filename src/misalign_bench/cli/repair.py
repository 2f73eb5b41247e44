"""``misalign-bench repair``: keep what is intact in a run folder's damaged journal.

A new journal of the intact answers takes its place; the damaged files are kept beside it. Running
the run's own command again then asks only for what is lost. A journal of an older version is
brought up to date.
"""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "repair"
HELP = "keep what is intact in a run folder's damaged journal"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="run folder of a bench or a build")


def run(arguments: argparse.Namespace) -> int:
    """Repair, and print what was kept and where the damaged files lie."""
    from misalign_bench.journal.repair import repair

    done = repair(arguments.folder)
    print(
        f"{done.kept:,} answers kept, {done.damaged:,} damaged rows found and left out; the journal"
        f" as it was is in {done.aside}"
    )
    return 0
