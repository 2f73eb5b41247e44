"""``misalign-bench domains``: show the taxonomy (paper: 14 safety, 56 value, 42 culture domains).

A table on a terminal, tab-separated lines in a pipe, or JSON with all fields.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from misalign_bench.records import DIMENSIONS

if TYPE_CHECKING:
    from misalign_bench.taxonomy.loader import Domain

NAME = "domains"
HELP = "list the domains of the taxonomy with their definitions"

_COLUMNS = ("dimension", "name", "group", "definition")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--dimension", choices=DIMENSIONS, help="only this dimension")
    parser.add_argument("--json", action="store_true", help="print all fields as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the named domains in their fixed order, culture's catch-all last."""
    from misalign_bench.taxonomy.loader import taxonomy

    held = taxonomy()
    shown = [
        domain
        for domain in (*held.domains, held.catch_all)
        if arguments.dimension in (None, domain.dimension)
    ]
    if arguments.json:
        print(_json(shown))
    elif sys.stdout.isatty():
        _print_table(shown)
    else:
        print("\n".join("\t".join(cells) for cells in (_COLUMNS, *map(_cells, shown))))
    return 0


def _cells(domain: Domain) -> tuple[str, ...]:
    return domain.dimension, domain.name, domain.group or "", domain.definition


def _json(domains: Sequence[Domain]) -> str:
    from dataclasses import asdict

    rows = [{"key": domain.key, **asdict(domain)} for domain in domains]
    return json.dumps(rows, indent=2, ensure_ascii=False)


def _print_table(domains: Sequence[Domain]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*_COLUMNS, show_lines=True)
    for domain in domains:
        table.add_row(*map(escape, _cells(domain)))
    Console().print(table)
