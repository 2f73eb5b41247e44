"""A build run as the page sees it: the per-domain table, the drops, the counts of each stage.

Layout of the folder: contract, section 5. ``stats.csv`` has the paper's columns (classified,
expanded, deduplicated, generated, filtered, resampled).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from misalign_bench.errors import UserError
from misalign_bench.report.audit_view import AuditView, read_audit
from misalign_bench.report.build_ledger import LedgerRow, ledger
from misalign_bench.report.label_reliability import Diagram, read_reliability

STATS = "stats.csv"
DROPPED = "dropped.parquet"

_NAMES = ("dimension", "domain", "name", "key", "group")


@dataclass(frozen=True, slots=True)
class DomainRow:
    """One line of ``stats.csv``: its counts in the order of ``BuildRun.columns``."""

    dimension: str
    name: str
    counts: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class BuildRun:
    """A build run folder.

    Attributes:
        label: the folder's name, for people.
        columns: names of the counts per domain.
        drops: rows that left the pipeline by (stage, reason).
        ledger: draws and acceptances by generator, kind and round.
        reliability: diagrams of the classifier's probabilities, if it was fitted.
        audit: what people say of its evaluator, if they were asked.
        manifest: ``manifest.json``, empty if there is none.
    """

    label: str
    folder: Path
    columns: tuple[str, ...]
    domains: tuple[DomainRow, ...]
    drops: Mapping[tuple[str, str], int]
    ledger: tuple[LedgerRow, ...] = ()
    reliability: tuple[Diagram, ...] = ()
    audit: AuditView | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stages(self) -> Mapping[str, Mapping[str, int]]:
        """Counts by stage, as the manifest holds them."""
        stages: Mapping[str, Mapping[str, int]] = self.manifest.get("stages", {})
        return stages

    @property
    def totals(self) -> tuple[int | None, ...]:
        """Sum of each column over the domains."""
        sums = []
        for position in range(len(self.columns)):
            known = [row.counts[position] for row in self.domains]
            numbers = [count for count in known if count is not None]
            sums.append(sum(numbers) if numbers else None)
        return tuple(sums)


def read_build_run(folder: Path, label: str, manifest: Mapping[str, Any]) -> BuildRun:
    """Read what a build left besides its data.

    Raises:
        UserError: a file is damaged.
    """
    columns, domains = _domains(folder / STATS)
    return BuildRun(
        label=label,
        folder=folder,
        columns=columns,
        domains=domains,
        drops=_drops(folder / DROPPED),
        ledger=ledger(folder),
        reliability=read_reliability(folder),
        audit=read_audit(folder),
        manifest=manifest,
    )


def _domains(path: Path) -> tuple[tuple[str, ...], tuple[DomainRow, ...]]:
    if not path.is_file():
        return (), ()
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            header = list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot be read: {error}", where=str(path)) from None
    columns = tuple(name for name in header if name not in _NAMES and _counts(rows, name))
    found = [
        DomainRow(*_named(row), tuple(_number(row.get(name)) for name in columns)) for row in rows
    ]
    # A sum is computed here, so that it is the sum of what is shown.
    return columns, tuple(row for row in found if row.name.lower() not in ("total", "all"))


def _named(row: Mapping[str, str | None]) -> tuple[str, str]:
    """Dimension and name, whether the file writes them apart or as ``dimension/name``."""
    written = row.get("name") or row.get("domain") or row.get("key") or ""
    dimension, slash, name = written.partition("/")
    if row.get("dimension"):
        held = str(row["dimension"])
        return held, name if slash and dimension == held else written
    return (dimension, name) if slash else ("", written)


def _counts(rows: Sequence[Mapping[str, str | None]], column: str) -> bool:
    """Whether a column holds counts."""
    values = [row.get(column) or "" for row in rows]
    return any(values) and all(value == "" or value.lstrip("-").isdigit() for value in values)


def _number(value: str | None) -> int | None:
    return int(value) if value else None


def _drops(path: Path) -> dict[tuple[str, str], int]:
    """Count the dropped rows by stage and reason, in the order of first appearance."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        return {}
    try:
        table = pq.read_table(path, columns=["stage", "reason"])
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"cannot be read as Parquet: {reason}", where=str(path)) from None
    grouped = table.group_by(["stage", "reason"], use_threads=False).aggregate([([], "count_all")])
    return {
        (str(row["stage"]), str(row["reason"])): int(row["count_all"])
        for row in grouped.to_pylist()
    }
