"""``misalign-bench report``: make one HTML page of bench and build runs, or their table.

The page needs nothing but itself: it can be mailed, archived and opened without a network.
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
        "--out", type=Path, required=True, metavar="FILE", help="page.html, or results.md or .tex"
    )
    parser.add_argument("--title", default="", help="heading (default: names the data set)")
    parser.add_argument(
        "--examples",
        type=int,
        default=300,
        metavar="N",
        help="show at most N verdicts with their texts, 0 for none (default: %(default)s)",
    )
    parser.add_argument(
        "--mixed-versions",
        action="store_true",
        help="show results whose numbers are defined differently beside each other",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the report and print its path."""
    from misalign_bench.report.write import write_report

    if arguments.examples < 0:
        raise UserError("--examples must not be negative")
    if arguments.out.is_dir():
        raise UserError(
            "it is a folder", where=str(arguments.out), mend="Name a file: --out page.html"
        )
    write_report(
        arguments.folders,
        arguments.out,
        title=arguments.title,
        limit=arguments.examples,
        mixed_versions=arguments.mixed_versions,
    )
    print(arguments.out)
    return 0
