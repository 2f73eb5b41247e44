"""The ledger of a build's draws as the page shows it: ``draws.csv``, rows over all prompts."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from misalign_bench.build.draw_ledger import RULES, VERDICTS
from misalign_bench.build.export import DRAWS
from misalign_bench.errors import UserError


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """Draws of one generator and kind in one round; round 0 is before any feedback.

    Attributes:
        given_up: responses of which this was the last round.
        rules, verdicts: rejected draws by rule, and by dimension that the evaluator objected to.
    """

    generator: str
    kind: str
    round: int
    draws: int
    accepted: int
    given_up: int
    rules: Mapping[str, int]
    verdicts: Mapping[str, int]

    @property
    def rate(self) -> float:
        """Share of the draws that were accepted."""
        return self.accepted / self.draws if self.draws else 0.0


def ledger(folder: Path) -> tuple[LedgerRow, ...]:
    """Read the ledger of a build; empty if it has none yet.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / DRAWS
    if not path.is_file():
        return ()
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return tuple(_row(row) for row in csv.DictReader(file) if not row["domain"])
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"is no ledger of draws ({reason})", where=str(path)) from None


def _row(row: Mapping[str, str]) -> LedgerRow:
    return LedgerRow(
        generator=row["generator"],
        kind=row["kind"],
        round=int(row["round"]),
        draws=int(row["drawn"]),
        accepted=int(row["accepted"]),
        given_up=int(row["given_up"]),
        rules=_held(row, tuple(reason.value for reason in RULES)),
        verdicts=_held(row, VERDICTS),
    )


def _held(row: Mapping[str, str], names: tuple[str, ...]) -> dict[str, int]:
    """The counts that are not zero."""
    return {name: int(row[name]) for name in names if int(row[name])}
