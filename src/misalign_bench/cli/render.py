"""How commands print: plain text without control sequences, tables, JSON.

What a prompt or a model wrote may hold anything, terminal control sequences included. Whatever
goes to a terminal passes ``plain`` first, or ``visible`` where it has several lines.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from misalign_bench.prompts.visible import UNSEEN, visible


def plain(text: str) -> str:
    r"""The text on one line, with what cannot be seen named.

    >>> plain("a\tb\nc \x1b[31mred")
    'a b c ⟦U+001B⟧[31mred'
    """
    return visible(text).replace("\n", " ").replace("\t", " ")


def table(rows: Sequence[Sequence[object]], columns: Sequence[str]) -> None:
    """Print a table to standard output: drawn on a terminal, tab-separated lines elsewhere.

    Args:
        rows: the cells of each row; None is an empty cell, a float shows three decimals.
        columns: the names over them. On a terminal columns of numbers are aligned to the right.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    if not sys.stdout.isatty():
        print("\n".join("\t".join(line) for line in (columns, *cells)))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table()
    for position, name in enumerate(columns):
        numbers = all(isinstance(row[position], int | float | None) for row in rows)
        drawn.add_column(Text(name), justify="right" if numbers else "left")
    for line in cells:
        drawn.add_row(*map(Text, line))
    Console().print(drawn)


def estimate(score: Mapping[str, Any]) -> str:
    """A number of ``results.json`` with its interval; what is missing is said.

    >>> estimate({"value": 0.5, "low": 0.4, "high": 0.6}), estimate({"value": None})
    ('0.500 [0.400, 0.600]', 'no items')
    """
    if score["value"] is None:
        return plain(" ".join((score.get("note") or "no items").split()))
    if score["low"] is None:
        return f"{score['value']:.3f}"
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"


def json_out(value: object) -> None:
    """Print a value as JSON to standard output; not-a-number is a defect, never printed.

    What cannot be seen is escaped, which JSON readers undo: of the control characters JSON itself
    escapes only the first 32, and a terminal obeys others too.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    print(UNSEEN.sub(lambda match: json.dumps(match.group())[1:-1], text))


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else plain(str(value))
