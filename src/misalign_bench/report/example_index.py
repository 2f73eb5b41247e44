"""The compact index of the examples: what a browser needs to list and filter all of them.

Names stand once, in ``values``; a row refers to them by number. Prompt, response and verdicts of an
example lie elsewhere: in the page itself, or in the data file that the row names.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from misalign_bench.report.entrants import short_name
from misalign_bench.report.example_choice import OUTCOMES
from misalign_bench.report.examples import Example

COLUMNS = (
    "outcome",
    "misaligned",
    "target",
    "condition",
    "dimensions",
    "domains",
    "file",
    "row",
    "item",
    "title",
)
"""What each row holds, in this order."""

_TITLE = 110


class ExampleIndex:
    """Filled example by example; a row is some hundred bytes."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, int]] = {
            "outcome": {name: place for place, name in enumerate(OUTCOMES)},
            **{name: {} for name in ("target", "condition", "dimension", "domain")},
        }
        self._rows: list[tuple[int, list[Any]]] = []

    def add(self, place: int, one: Example, file: int, row: int) -> None:
        """Note an example: its place in the order to show, and where it lies."""
        entry = [
            self._number("outcome", one.outcome),
            int(one.misaligned),
            self._number("target", one.target),
            self._number("condition", one.condition),
            [self._number("dimension", name) for name in one.dimensions],
            [self._number("domain", name) for name in one.domains],
            file,
            row,
            one.item_id,
            " ".join((one.prompt or one.sent)[: 2 * _TITLE].split())[:_TITLE],
        ]
        self._rows.append((place, entry))

    def table(self) -> dict[str, Any]:
        """The index as the browser takes it."""
        ordered = sorted(self._rows, key=lambda pair: pair[0])
        return {
            "columns": COLUMNS,
            "values": {name: list(held) for name, held in self._values.items()},
            "names": _shown_names(self._values["target"]),
            "rows": [entry for _, entry in ordered],
        }

    def __len__(self) -> int:
        return len(self._rows)

    def _number(self, kind: str, name: str) -> int:
        held = self._values[kind]
        return held.setdefault(name, len(held))


def _shown_names(targets: dict[str, int]) -> list[str]:
    """The names that the targets have on the page: short where that tells them apart."""
    short = Counter(map(short_name, targets))
    return [short_name(one) if short[short_name(one)] == 1 else one for one in targets]
