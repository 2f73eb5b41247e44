"""Tables in the documentation: each stands between two marker comments and is written by a script.

``<!-- measured: NAME -->`` opens it and ``<!-- end: NAME -->`` closes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "deduplication.md"


def put_between(document: Path, name: str, text: str) -> None:
    """Replace what stands between the two markers of a table."""
    before, opening, rest = document.read_text(encoding="utf-8").partition(
        f"<!-- measured: {name} -->"
    )
    _, closing, after = rest.partition(f"<!-- end: {name} -->")
    if not opening or not closing:
        raise SystemExit(f"{document} has no markers for the table '{name}'")
    document.write_text(f"{before}{opening}\n{text.strip()}\n{closing}{after}", encoding="utf-8")


def grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table: the first column to the left, the others to the right."""
    lines = [list(head), ["---"] + ["--:"] * (len(head) - 1), *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
