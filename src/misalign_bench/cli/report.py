"""``misalign-bench report``: make an HTML page of bench and build runs, or their table.

The page needs nothing but itself: it can be mailed, archived and opened without a network. With
thousands of examples it is a folder, opened straight from disk too.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from misalign_bench.errors import UserError

NAME = "report"
HELP = "make a self-contained HTML page of runs, or their table as Markdown or LaTeX"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="DIR", help="run folder of a bench or a build"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="PLACE",
        help="page.html; page, a folder for thousands of examples; results.md or .tex",
    )
    parser.add_argument("--title", default="", help="heading (default: names the data set)")
    parser.add_argument(
        "--examples",
        type=int,
        metavar="N",
        help="show at most N verdicts with their texts, 0 for none (default: 300, at most 500; in"
        " a folder 10000)",
    )
    parser.add_argument(
        "--mixed-versions",
        action="store_true",
        help="show results whose numbers are defined differently beside each other",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the report and print its path."""
    from misalign_bench.report.write import write_report

    if arguments.examples is not None and arguments.examples < 0:
        raise UserError("--examples must not be negative")
    write_report(
        arguments.folders,
        arguments.out,
        title=arguments.title,
        limit=arguments.examples,
        mixed_versions=arguments.mixed_versions,
    )
    print(arguments.out)
    return 0
