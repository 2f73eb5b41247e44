"""The page that holds the measurements of this folder, and how its tables look."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from marked_page import put_between

DOCUMENT = Path(__file__).parents[2] / "docs" / "deduplication.md"


def write(name: str, text: str) -> None:
    """Put a table into its place on the page."""
    page = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(put_between(page, f"measured: {name}", text.strip()), encoding="utf-8")


def grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table: the first column to the left, the others to the right."""
    lines = [list(head), ["---"] + ["--:"] * (len(head) - 1), *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
