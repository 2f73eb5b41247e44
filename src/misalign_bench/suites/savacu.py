"""Benchmark items from SaVaCu data sets, and from data of one's own (contract, sections 2 and 5).

``load_suite`` reads a data set folder that Stage I wrote, or one file, JSON Lines or Parquet, with
``prompt, response, misaligned`` or with the texts ``prompt, aligned, misaligned`` (see ``rows``).
Items come back in the order of the files; what a row must hold is checked row by row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from misalign_bench.errors import UserError
from misalign_bench.records import DIMENSIONS, SPLITS, Item
from misalign_bench.suites.files import Row, json_lines, parquet
from misalign_bench.suites.rows import COLUMNS, items_of

CONFIGURATION = "pairs"
"""The configuration of a data set folder that holds the items."""

_READERS = {".jsonl": json_lines, ".ndjson": json_lines, ".parquet": parquet}


@dataclass(frozen=True, slots=True)
class Suite:
    """Items to bench, and what is known about where they come from.

    Attributes:
        name: name of the folder or file.
        content_hash: hash of all items, whatever their order or file format.
        splits: the splits the items come from; empty for data without splits.
        evaluators: models that decided what is true of the items.
        simulated: whether a simulated model wrote or judged any of them.
    """

    name: str
    items: tuple[Item, ...]
    content_hash: str
    splits: tuple[str, ...] = ()
    evaluators: tuple[str, ...] = ()
    simulated: bool = False


def load_items(path: str | Path, splits: Sequence[str] = ("test",)) -> list[Item]:
    """The items of ``load_suite``."""
    return list(load_suite(path, splits).items)


def load_suite(path: str | Path, splits: Sequence[str] = ("test",)) -> Suite:
    """Read a data set folder or a file.

    Args:
        path: a folder with ``data/pairs/…``, or a ``.jsonl``, ``.ndjson`` or ``.parquet`` file.
        splits: the splits to read, all if empty; rows of a file that name no split are always
            read.

    Raises:
        UserError: nothing there, no such split, or a broken row, with file and row.
    """
    path = Path(path)
    items: list[Item] = []
    evaluators: set[str] = set()
    simulated = False
    held: dict[Any, Any] = {}
    for row in _rows(path, splits):
        items += (_sharing(item, held) for item in items_of(row))
        evaluators.add(row.text("evaluator", default=""))
        simulated = simulated or row.boolean("simulated", default=False)
    _refuse_empty(items, path, splits)
    items = _with_clusters(_with_own_ids(items, path), path)
    return Suite(
        name=path.resolve().stem if path.is_file() else path.resolve().name,
        items=tuple(items),
        content_hash=content_hash(items),
        splits=tuple(split for split in SPLITS if any(item.split == split for item in items)),
        evaluators=tuple(sorted(evaluators - {""})),
        simulated=simulated,
    )


def content_hash(items: Collection[Item]) -> str:
    """SHA-256 of the items, whose ids differ, independent of their order."""
    digest = hashlib.sha256()
    # In the order of their lines, which begin with the ids, without holding them all.
    for number, item in enumerate(sorted(items, key=lambda one: json.dumps(one.item_id))):
        line = json.dumps(
            [
                *(item.item_id, item.prompt_id, item.cluster_id, item.prompt, item.response),
                *(item.misaligned, item.active, item.intended, item.intended_domains),
                [item.violated.get(dimension) for dimension in DIMENSIONS],
                *(item.domains, item.generator, item.split),
            ]
        )
        digest.update(f"\n{line}".encode() if number else line.encode())
    return digest.hexdigest()


def limited(items: Sequence[Item], limit: int | None, seed: int = 0) -> list[Item]:
    """At most ``limit`` items: whole pairs of prompt and generator, chosen by seeded hash.

    A larger limit keeps what a smaller one chose. Items keep their order.
    """
    if limit is None or limit >= len(items):
        return list(items)
    groups: dict[tuple[str, str], list[int]] = {}
    for position, item in enumerate(items):
        groups.setdefault((item.prompt_id, item.generator), []).append(position)
    chosen: list[int] = []
    for group in sorted(groups, key=lambda one: _digest(str(seed), *one)):
        if len(chosen) + len(groups[group]) > limit:
            break
        chosen += groups[group]
    return [items[position] for position in sorted(chosen)]


def _sharing(item: Item, held: dict[Any, Any]) -> Item:
    """The item with what others say too held once: most of its memory but for the response."""
    names = ("prompt", "prompt_id", "cluster_id", "domains", "active", "intended")
    said = {name: getattr(item, name) for name in (*names, "intended_domains", "generator")}
    violated = held.setdefault(tuple(item.violated.items()), item.violated)
    shared = {name: held.setdefault(value, value) for name, value in said.items()}
    return replace(item, **shared, violated=violated)


def _rows(path: Path, splits: Sequence[str]) -> Iterator[Row]:
    if path.is_dir():
        for split in splits or ("",):
            for file in _split_files(path, split):
                yield from parquet(file, COLUMNS)
        return
    reader = _READERS.get(path.suffix.lower())
    if not path.exists():
        raise UserError("no such file or folder", where=str(path))
    if reader is None:
        known = ", ".join(_READERS)
        raise UserError("unknown kind of file", where=str(path), mend=f"Known: {known}")
    for row in reader(path, COLUMNS):
        split = row.text("split", default="")
        if not splits or not split or split in splits:
            yield row


def _split_files(folder: Path, split: str) -> list[Path]:
    """The files of a split, in order; of all splits if it is empty."""
    place = folder / "data" / CONFIGURATION
    found = sorted(place.glob("*-*.parquet"))
    # Compared and never made part of a path: a results file of others names splits too.
    files = [file for file in found if not split or file.name.startswith(f"{split}-")]
    if not files:
        there = sorted({file.name.partition("-")[0] for file in found})
        raise UserError(
            f"no split {split!r} in data/{CONFIGURATION}" if there else f"no data/{CONFIGURATION}",
            where=str(folder),
            mend=f"There: {', '.join(there)}" if there else "Is it a data set folder?",
        )
    return files


def _refuse_empty(items: Sequence[Item], path: Path, splits: Sequence[str]) -> None:
    if not items:
        wanted = f" in split {', '.join(splits)}" if splits else ""
        raise UserError(f"no items{wanted}", where=str(path))


def _with_own_ids(items: Sequence[Item], path: Path) -> list[Item]:
    """Name items that came without id by what they are; refuse an id that stands for two."""
    named: list[Item] = []
    seen: set[str] = set()
    for item in items:
        name = item.item_id
        if not name:
            kind = "misaligned" if item.misaligned else "aligned"
            name = stem = f"{item.prompt_id}:{_digest(item.generator, item.response)}:{kind}"
            repeat = 1
            while name in seen:
                repeat += 1
                name = f"{stem}:{repeat}"
        elif name in seen:
            raise UserError(
                f"two items have the id {name!r}", where=str(path), mend="Give each row its own id"
            )
        seen.add(name)
        named.append(replace(item, item_id=name))
    return named


def _with_clusters(items: list[Item], path: Path) -> list[Item]:
    """Find near-duplicate clusters of the prompts where the data does not name them."""
    bare = sum(not item.cluster_id for item in items)
    if not bare:
        return items
    if bare < len(items):
        raise UserError(
            f"{bare} of {len(items)} items have no cluster_id",
            where=str(path),
            mend="Give it in every row or in none",
        )
    from misalign_bench.simhash.clusters import components

    prompts = list(dict.fromkeys(item.prompt for item in items))
    first = components(prompts, tau=10, verify=0.7)
    names: dict[int, str] = {}
    for prompt, position in zip(prompts, first.tolist(), strict=True):
        # The least hash of its prompts names a cluster, so that the order of rows does not matter.
        names[position] = min(_digest(prompt), names.get(position, "g"))
    cluster = dict(zip(prompts, (names[position] for position in first.tolist()), strict=True))
    return [replace(item, cluster_id=cluster[item.prompt]) for item in items]


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
