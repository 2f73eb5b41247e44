"""Examples for the page: some verdicts of each outcome, with what was read and what was said.

Verdicts are drawn evenly over target, condition and outcome by a hash of their item, so that the
same run shows the same examples, and several targets show the same items. Texts come from the data
set that the results name by its content hash, else from the requests in the run's journal.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from misalign_bench.errors import UserError
from misalign_bench.records import Item
from misalign_bench.report.bench_run import VERDICTS, BenchRun

OUTCOMES = ("missed", "false alarm", "unscored", "correct")

_KEY = ("item_id", "target", "condition", "framing", "epoch")
_LONGEST = 12_000
_LONGEST_RAW = 2_000


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


def examples(run: BenchRun, limit: int, data: Sequence[Path] = ()) -> list[Example]:
    """Choose at most ``limit`` verdicts of a run and find their texts.

    Args:
        run: the bench run; without ``verdicts.parquet`` there are no examples.
        limit: how many.
        data: folders or files that may hold the benched data set.

    Raises:
        UserError: the verdicts are damaged.
    """
    import pyarrow as pa

    path = run.folder / VERDICTS
    if limit <= 0 or not path.is_file():
        return []
    try:
        chosen = _chosen(path, limit)
        rows = _rows(path, chosen)
    except (OSError, KeyError, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(f"cannot be read: {reason}", where=str(path)) from None
    items = _items(run, {key[0] for key in chosen}, data)
    with _Entries(run.folder) as entries:
        return [_example(run.label, rows[key], items, entries) for key in chosen if key in rows]


def outcome(misaligned: bool, verdict: str) -> str:
    """What a joint verdict amounts to.

    >>> outcome(True, "passed"), outcome(False, "flagged"), outcome(True, "flagged")
    ('missed', 'false alarm', 'correct')
    """
    if verdict == "unscored":
        return "unscored"
    if misaligned == (verdict == "flagged"):
        return "correct"
    return "missed" if misaligned else "false alarm"


def _chosen(path: Path, limit: int) -> list[tuple[Any, ...]]:
    """Keys of verdicts, one from each (target, condition, framing, outcome) in turn."""
    strata: dict[tuple[str, ...], list[tuple[str, tuple[Any, ...]]]] = {}
    for row in _batches(path, [*_KEY, "dimension", "truth", "verdict"], "joint"):
        key = tuple(row[name] for name in _KEY)
        result = outcome(row["truth"], row["verdict"])
        stratum = strata.setdefault((*key[1:4], result), [])
        stratum.append((_order(key), key))
        if len(stratum) >= 8 * limit:
            stratum[:] = heapq.nsmallest(limit, stratum)
    rank = {name: place for place, name in enumerate(OUTCOMES)}
    queues = [
        heapq.nsmallest(limit, strata[place])
        for place in sorted(strata, key=lambda place: (rank[place[-1]], place))
    ]
    turns = (queue[turn] for turn in range(limit) for queue in queues if turn < len(queue))
    return [key for _, (_, key) in zip(range(limit), turns, strict=False)]


def _batches(path: Path, columns: list[str], dimension: str) -> Iterator[dict[str, Any]]:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=columns):
            yield from batch.filter(pc.equal(batch["dimension"], dimension)).to_pylist()


def _rows(
    path: Path, chosen: Sequence[tuple[Any, ...]]
) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """All rows of the chosen verdicts, in the order of the file."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    wanted, names = set(chosen), pa.array(sorted({key[0] for key in chosen}), pa.string())
    rows: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches():
            for row in batch.filter(pc.is_in(batch["item_id"], value_set=names)).to_pylist():
                key = tuple(row[name] for name in _KEY)
                if key in wanted:
                    rows.setdefault(key, []).append(row)
    return rows


def _order(key: tuple[Any, ...]) -> str:
    return hashlib.blake2b(f"{key[0]}\0{key[4]}".encode(), digest_size=8).hexdigest()


def _items(run: BenchRun, names: set[str], data: Sequence[Path]) -> dict[str, Item]:
    """The benched items, from the first place whose content is what the results rest on."""
    from misalign_bench.suites.savacu import load_suite

    for place in [*data, *_named_by(run)]:
        try:
            suite = load_suite(place, tuple(run.header.get("splits", ())))
        except UserError:
            continue
        if suite.content_hash == run.dataset["content_hash"]:
            return {item.item_id: item for item in suite.items if item.item_id in names}
    return {}


def _named_by(run: BenchRun) -> list[Path]:
    """Places that the run's command line names: one of them is the data set that it read."""
    command = run.manifest.get("command")
    words = command if isinstance(command, list) else []
    return [Path(word) for word in words if not word.startswith("-") and Path(word).exists()]


def _example(
    label: str, rows: Sequence[Mapping[str, Any]], items: Mapping[str, Item], entries: _Entries
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
        **{name: joint[name] for name in _KEY},
        outcome=outcome(joint["truth"], joint["verdict"]),
        misaligned=joint["truth"],
        said=said,
        dimensions=tuple(dict.fromkeys([*held, *(joint["active"] or ())])),
        domains=tuple(dict.fromkeys([*joint["intended_domains"], *joint["domains"]])),
        generator=joint["generator"] or "",
        own=bool(joint["own"]),
        split=item.split if item else "",
        prompt=_short(item.prompt) if item else "",
        response=_short(item.response) if item else "",
        violated={str(name): held for name, held in item.violated.items()} if item else violated,
        sent="" if item else _short(entries.request(keys)),
        raw=tuple(entries.answer(key) for key in keys),
    )


class _Entries:
    """The run's journal, if it is there and sound; an example without it is still an example."""

    def __init__(self, folder: Path) -> None:
        from misalign_bench.journal.folder import JOURNAL
        from misalign_bench.journal.store import Journal

        self._journal: Journal | None = None
        if (folder / JOURNAL).is_file():
            try:
                self._journal = Journal.open(folder / JOURNAL, read_only=True)
            except UserError:
                self._journal = None

    def __enter__(self) -> _Entries:
        return self

    def __exit__(self, *_: object) -> None:
        if self._journal is not None:
            self._journal.__exit__()

    def request(self, keys: Sequence[str]) -> str:
        """What the target was sent last under the first key that the journal knows."""
        for key in keys:
            messages = (self._body(key, "request") or {}).get("messages") or []
            if messages:
                return str(messages[-1][1])
        return ""

    def answer(self, key: str) -> str:
        """What came back under a key: its text, or the log-probabilities that were asked for."""
        body = self._body(key, "response")
        if body is None:
            return ""
        options = body.get("options")
        shown = (
            ", ".join(f"log p({name}) = {value:.3f}" for name, value in options.items())
            if options
            else str(body.get("text", ""))
        )
        return _short(shown, _LONGEST_RAW)

    def _body(self, key: str, part: str) -> Mapping[str, Any] | None:
        try:
            entry = self._journal.get(key) if self._journal and key else None
        except UserError:
            return None
        body: Mapping[str, Any] | None = getattr(entry, part, None)
        return body


def _short(text: str, longest: int = _LONGEST) -> str:
    cut = len(text) - longest
    return f"{text[:longest]}\n[{cut:,} more characters are not shown]" if cut > 0 else text
