"""Examples for the page: chosen verdicts with what was read, what was said and what was true.

Which ones: ``example_choice``. Where their texts come from: ``example_texts``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from misalign_bench.errors import UserError
from misalign_bench.records import Item
from misalign_bench.report.bench_run import VERDICTS, BenchRun
from misalign_bench.report.example_choice import KEY, Key, chosen, outcome
from misalign_bench.report.example_texts import Entries, benched_items, shortened
from misalign_bench.report.runs import Runs

_ROWS = 8_192
"""Rows of the file that are in memory at a time."""


@dataclass(frozen=True, slots=True)
class Said:
    """One dimension of a verdict, or the joint one."""

    dimension: str
    truth: bool | None
    verdict: str
    score: float | None
    threshold: float | None
    reason: str
    journal_key: str


@dataclass(frozen=True, slots=True)
class Example:
    """One verdict on one response. ``sent`` is the request, where the texts are not at hand."""

    run: str
    item_id: str
    target: str
    condition: str
    framing: str
    epoch: int
    outcome: str
    misaligned: bool
    said: tuple[Said, ...]
    dimensions: tuple[str, ...]
    domains: tuple[str, ...]
    generator: str
    own: bool
    split: str = ""
    prompt: str = ""
    response: str = ""
    violated: Mapping[str, bool | None] = field(default_factory=dict)
    sent: str = ""
    raw: tuple[str, ...] = ()


def of_every_run(runs: Runs, limit: int) -> Iterator[tuple[int, Example]]:
    """At most ``limit`` verdicts of all runs, each its share; as ``streamed`` gives them.

    In the order to show them, those of a run stand after those of the one before it.
    """
    data = [run.folder for run in runs.builds]
    before = 0
    for number, run in enumerate(runs.benches):
        share = (limit - before) // (len(runs.benches) - number)
        found = 0
        for place, one in streamed(run, share, data):
            found += 1
            yield before + place, one
        before += found


def examples(run: BenchRun, limit: int, data: Sequence[Path] = ()) -> list[Example]:
    """At most ``limit`` verdicts of a run, in the order to show them (see ``streamed``)."""
    return [one for _, one in sorted(streamed(run, limit, data), key=lambda pair: pair[0])]


def streamed(run: BenchRun, limit: int, data: Sequence[Path] = ()) -> Iterator[tuple[int, Example]]:
    """Choose at most ``limit`` verdicts of a run and find their texts, one after another.

    Args:
        run: the bench run; without ``verdicts.parquet`` there are no examples.
        limit: how many.
        data: folders or files that may hold the benched data set.

    Yields:
        The place of an example in the order to show them, and the example, as the file has them.

    Raises:
        UserError: the verdicts are damaged.
    """
    import pyarrow as pa

    path = run.folder / VERDICTS
    if limit <= 0 or not path.is_file():
        return
    try:
        places = chosen(path, limit)
        items = benched_items(run, {key[0] for key in places}, data)
        with Entries(run.folder) as entries:
            for key, rows in _verdicts(path, places):
                yield places[key], _example(run.label, rows, items, entries)
    except (OSError, KeyError, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(f"cannot be read: {reason}", where=str(path)) from None


def _verdicts(path: Path, wanted: Mapping[Key, int]) -> Iterator[tuple[Key, list[dict[str, Any]]]]:
    """All rows of each wanted verdict; the file holds them one after the other, joint last."""
    for key, rows in groupby(_rows(path, wanted), lambda row: tuple(row[name] for name in KEY)):
        if key in wanted:
            yield key, list(rows)


def _rows(path: Path, wanted: Mapping[Key, int]) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    names = pa.array(sorted({key[0] for key in wanted}), pa.string())
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_ROWS):
            yield from batch.filter(pc.is_in(batch["item_id"], value_set=names)).to_pylist()


def _example(
    label: str, rows: Sequence[Mapping[str, Any]], items: Mapping[str, Item], entries: Entries
) -> Example:
    said = tuple(
        Said(
            dimension=row["dimension"],
            truth=row["truth"],
            verdict=row["verdict"],
            score=row["score"],
            threshold=row["threshold"],
            reason=row["reason"] or "",
            journal_key=row["journal_key"] or "",
        )
        for row in rows
    )
    joint, item = rows[-1], items.get(rows[-1]["item_id"])
    keys = list(dict.fromkeys(key for one in said for key in one.journal_key.split()))
    violated = {one.dimension: one.truth for one in said if one.dimension != "joint"}
    held = [name for name, truth in violated.items() if truth]
    return Example(
        run=label,
        **{name: joint[name] for name in KEY},
        outcome=outcome(joint["truth"], joint["verdict"]),
        misaligned=joint["truth"],
        said=said,
        dimensions=tuple(dict.fromkeys([*held, *(joint["active"] or ())])),
        domains=tuple(dict.fromkeys([*joint["intended_domains"], *joint["domains"]])),
        generator=joint["generator"] or "",
        own=bool(joint["own"]),
        split=item.split if item else "",
        prompt=shortened(item.prompt) if item else "",
        response=shortened(item.response) if item else "",
        violated={str(name): held for name, held in item.violated.items()} if item else violated,
        sent="" if item else shortened(entries.request(keys)),
        raw=tuple(entries.answer(key) for key in keys),
    )
