"""Stage I, step 9: the data set as files that ``datasets.load_dataset`` reads.

Five configurations (``export_rows``) in Parquet, one file a split, empty splits included; the
per-domain table ``stats.csv`` in the paper's columns; the ledger of all draws, ``draws.csv``;
``dropped.parquet``; and the documents that a data set folder needs (card, Croissant), which the
caller's ``describe`` writes.

The same pairs give the same bytes: rows are sorted, writer options fixed, and nothing of the run
goes in. Bytes may differ between versions of pyarrow.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from misalign_bench.build.diversity import DomainDiversity
from misalign_bench.build.draw_ledger import DrawRow, PairCost, draws_csv
from misalign_bench.build.export_rows import CONFIGURATIONS, Configuration, rows, schema, sound
from misalign_bench.build.statistics_table import DomainRow, Ledger, as_csv, domain_table
from misalign_bench.config import RunSettings
from misalign_bench.records import SPLITS, Dropped, Pair, Split

if TYPE_CHECKING:
    import pyarrow as pa

    from misalign_bench.journal.folder import RunFolder

STATS = "stats.csv"
DRAWS = "draws.csv"
DROPPED = "dropped.parquet"
ROW_GROUP = 5_000


@dataclass(frozen=True, slots=True)
class DataFile:
    """One Parquet file of the data set, as the documents describe it."""

    path: str
    configuration: Configuration
    split: Split
    rows: int
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Summary:
    """What was exported, for the card.

    Attributes:
        settings: of the run.
        files: the data files, by configuration and split.
        pairs: the accepted pairs, in their order in the files.
        domains: the per-domain table.
        drops: dropped rows by (stage, reason).
        shared_roles: whether a model scored or labelled what it may have written.
        notes: what else the card must say, one sentence each.
        diversity: how varied the prompts are that expansion added, by domain.
        draws: the ledger of all draws.
        costs: what the pairs took, by generator.
    """

    settings: RunSettings
    files: tuple[DataFile, ...]
    pairs: tuple[Pair, ...]
    domains: tuple[DomainRow, ...]
    drops: Mapping[tuple[str, str], int]
    shared_roles: bool = False
    notes: tuple[str, ...] = ()
    diversity: tuple[DomainDiversity, ...] = ()
    draws: tuple[DrawRow, ...] = ()
    costs: tuple[PairCost, ...] = ()


Describe = Callable[[Summary], Mapping[str, str]]
"""Returns the documents of a data set folder by file name (``report.card.describe``)."""


def export(
    folder: RunFolder,
    pairs: Sequence[Pair],
    dropped: Sequence[Dropped],
    settings: RunSettings,
    ledger: Ledger,
    describe: Describe,
    *,
    shared_roles: bool = False,
    notes: Sequence[str] = (),
    diversity: Sequence[DomainDiversity] = (),
    draws: Sequence[DrawRow] = (),
    costs: Sequence[PairCost] = (),
) -> Summary:
    """Write the data set into the run folder, each file whole or not at all.

    Args:
        folder: the run folder.
        pairs: the accepted pairs, in any order; every prompt has its split.
        dropped: every row that was dropped, in any order.
        settings: of the run.
        ledger: what the per-domain table needs besides.
        describe: makes the documents; the card among them, without which nothing loads.
        shared_roles: as ``roles.refuse_shared`` returned it; marks the metadata and the card.
        notes: sentences for the card.
        diversity: of the added prompts, for the card.
        draws: what became of every draw.
        costs: what the pairs took, for the card.

    Returns:
        What was written.

    Raises:
        OutsideWorld: full disk or input/output error.
        ValueError: a pair has no split, or two pairs are of one prompt and generator.
    """
    ordered = _ordered(pairs)
    files = tuple(
        _write_split(folder, configuration, split, ordered, settings, shared_roles)
        for configuration in CONFIGURATIONS
        for split in SPLITS
    )
    domains = domain_table(ledger, ordered, dropped)
    folder.write_atomic(STATS, as_csv(domains))
    folder.write_atomic(DRAWS, draws_csv(draws))
    folder.write_atomic(DROPPED, lambda path: _write_dropped(path, dropped))
    drops = Counter((row.stage, row.reason.value) for row in dropped)
    summary = Summary(
        settings=settings,
        files=files,
        pairs=tuple(ordered),
        domains=domains,
        drops=dict(sorted(drops.items())),
        shared_roles=shared_roles,
        notes=tuple(notes),
        diversity=tuple(diversity),
        draws=tuple(draws),
        costs=tuple(costs),
    )
    for name, text in describe(summary).items():
        folder.write_atomic(name, text.encode())
    return summary


def data_path(configuration: str, split: str) -> str:
    """Return the place of a split's file in the folder.

    >>> data_path("pairs", "test")
    'data/pairs/test-00000-of-00001.parquet'
    """
    return f"data/{configuration}/{split}-00000-of-00001.parquet"


def _ordered(pairs: Sequence[Pair]) -> list[Pair]:
    """By prompt id, which is a hash and so no order of the source, then by generator."""
    ordered = sorted(pairs, key=lambda pair: (pair.labelled.prompt.id, pair.generator))
    for pair in ordered:
        if pair.labelled.split is None:
            raise ValueError(f"{pair.id} has no split")
    if len({pair.id for pair in ordered}) < len(ordered):
        raise ValueError("two pairs are of one prompt and generator")
    return ordered


def _write_split(
    folder: RunFolder,
    configuration: Configuration,
    split: Split,
    pairs: Sequence[Pair],
    settings: RunSettings,
    shared_roles: bool,
) -> DataFile:
    columns = schema(configuration, settings, shared_roles)
    counts = [0]

    def selected() -> Iterator[dict[str, Any]]:
        for pair in pairs:
            if pair.labelled.split == split:
                for row in rows(configuration, pair, settings):
                    counts[0] += 1
                    yield row

    name = data_path(configuration, split)
    path = folder.write_atomic(name, lambda place: _write_parquet(place, columns, selected()))
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return DataFile(name, configuration, split, counts[0], len(content), digest)


def _write_dropped(path: Path, dropped: Sequence[Dropped]) -> None:
    import pyarrow as pa

    columns = pa.schema([(name, pa.string()) for name in ("id", "stage", "reason", "detail")])
    ordered = sorted((row.stage, row.reason.value, row.id, sound(row.detail)) for row in dropped)
    _write_parquet(
        path,
        columns,
        iter(
            {"id": identity, "stage": stage, "reason": reason, "detail": detail}
            for stage, reason, identity, detail in ordered
        ),
    )


def _write_parquet(path: Path, columns: pa.Schema, found: Iterator[dict[str, Any]]) -> None:
    """Write rows in groups; every option that could vary is set."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetWriter(
        path,
        columns,
        version="2.6",
        compression="zstd",
        compression_level=3,
        use_dictionary=True,
        write_statistics=True,
        data_page_version="1.0",
    ) as writer:
        while group := list(islice(found, ROW_GROUP)):
            writer.write_table(
                pa.Table.from_pylist(group, schema=columns), row_group_size=ROW_GROUP
            )
