"""The acceptance ledger of a build: draws by generator, kind and feedback round, and what passed.

Draws are the generators' answers in the journal; accepted are those whose journal key stands in the
data set (paper: rejection stages 1 and 2).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from misalign_bench.errors import UserError
from misalign_bench.journal.folder import JOURNAL
from misalign_bench.records import KINDS

_PAIRS = "data/pairs"
_TEMPLATE = "respond_"


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """Draws of one generator and kind in one round; round 0 is before any feedback."""

    generator: str
    kind: str
    round: int
    draws: int
    accepted: int

    @property
    def rate(self) -> float:
        """Share of the draws that were accepted."""
        return self.accepted / self.draws if self.draws else 0.0


def ledger(folder: Path) -> tuple[LedgerRow, ...]:
    """Count the draws of a build; empty if its journal or its data are not there.

    Raises:
        UserError: the journal or a data file is damaged.
    """
    files = sorted((folder / _PAIRS).glob("*.parquet"))
    if not files or not (folder / JOURNAL).is_file():
        return ()
    from misalign_bench.journal.store import Journal

    kept = _accepted_keys(files)
    draws: Counter[tuple[str, str, int]] = Counter()
    accepted: Counter[tuple[str, str, int]] = Counter()
    with Journal.open(folder / JOURNAL, read_only=True) as journal:
        for entry in journal.entries(role="generator"):
            kind = entry.template.partition("@")[0].removeprefix(_TEMPLATE)
            place = entry.model, kind, entry.round
            draws[place] += 1
            accepted[place] += entry.key in kept
    order = sorted(draws, key=lambda place: (place[0], place[1] != KINDS[0], place[1], place[2]))
    return tuple(LedgerRow(*place, draws[place], accepted[place]) for place in order)


def _accepted_keys(files: list[Path]) -> set[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [f"{kind}_key" for kind in KINDS]
    kept: set[str] = set()
    for file in files:
        try:
            table = pq.read_table(file, columns=columns)
        except (OSError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"cannot be read as Parquet: {reason}", where=str(file)) from None
        for column in table.columns:
            kept.update(column.to_pylist())
    return kept
