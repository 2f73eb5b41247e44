"""Which verdicts a page shows: some of each outcome, target and condition.

They are drawn evenly by a hash of item and epoch, so that the same run shows the same examples, and
several targets show the same items. Two passes over the verdicts: one counts, one keeps as many of
each kind as the counts allow, so memory is bounded by what is shown.
"""

from __future__ import annotations

import hashlib
import heapq
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

OUTCOMES = ("missed", "false alarm", "unscored", "correct")
KEY = ("item_id", "target", "condition", "framing", "epoch")
"""What names a verdict in ``verdicts.parquet``."""

Key = tuple[Any, ...]
Stratum = tuple[str, ...]
"""Target, condition, framing and outcome."""

_PLACE = ("target", "condition", "framing", "truth", "verdict")


def chosen(path: Path, limit: int) -> dict[Key, int]:
    """Keys of at most ``limit`` verdicts with their place in the order to show them.

    One of each stratum in turn, the gravest outcome first.
    """
    shares = _shares(_counted(path), limit)
    strata: dict[Stratum, list[tuple[str, Key]]] = {place: [] for place in shares}
    for key, place in _joint_rows(path):
        share, held = shares.get(place, 0), strata.get(place)
        if held is not None:
            held.append((_order(key), key))
            if len(held) >= 2 * share + 64:
                held[:] = heapq.nsmallest(share, held)
    queues = [heapq.nsmallest(shares[place], strata[place]) for place in _ranked(shares)]
    longest = max(map(len, queues), default=0)
    turns = (queue[turn] for turn in range(longest) for queue in queues if turn < len(queue))
    return {key: place for place, (_, key) in enumerate(turns)}


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


def _counted(path: Path) -> Counter[Stratum]:
    """How many verdicts each stratum holds."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    counts: Counter[Stratum] = Counter()
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=[*_PLACE, "dimension"]):
            held = pa.Table.from_batches([batch.filter(pc.equal(batch["dimension"], "joint"))])
            for row in held.group_by(list(_PLACE)).aggregate([([], "count_all")]).to_pylist():
                counts[_stratum(row)] += row["count_all"]
    return counts


def _shares(counts: Mapping[Stratum, int], limit: int) -> dict[Stratum, int]:
    """How many of each stratum are shown: the same of all, as far as they reach.

    >>> _shares({("a", "missed"): 1, ("a", "correct"): 9, ("b", "correct"): 9}, 6)
    {('a', 'missed'): 1, ('a', 'correct'): 3, ('b', 'correct'): 2}
    """
    shares = dict.fromkeys(_ranked(counts), 0)
    left = limit
    while open_ones := [place for place in shares if shares[place] < counts[place]]:
        step = left // len(open_ones)
        if not step:
            for place in open_ones[:left]:
                shares[place] += 1
            break
        for place in open_ones:
            taken = min(step, counts[place] - shares[place])
            shares[place] += taken
            left -= taken
    return {place: share for place, share in shares.items() if share}


def _ranked(places: Mapping[Stratum, Any]) -> list[Stratum]:
    """The gravest outcome first, then by name."""
    return sorted(places, key=lambda place: (OUTCOMES.index(place[-1]), place))


def _joint_rows(path: Path) -> Iterator[tuple[Key, Stratum]]:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    columns = list(dict.fromkeys([*KEY, *_PLACE, "dimension"]))
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=columns):
            for row in batch.filter(pc.equal(batch["dimension"], "joint")).to_pylist():
                yield tuple(_once(row[name]) for name in KEY), _stratum(row)


def _stratum(row: Mapping[str, Any]) -> Stratum:
    names = (_once(row["target"]), _once(row["condition"]), _once(row["framing"]))
    return (*names, outcome(row["truth"], row["verdict"]))


def _once(value: Any) -> Any:
    """A name that many rows share, held once."""
    return sys.intern(value) if isinstance(value, str) else value


def _order(key: Key) -> str:
    return hashlib.blake2b(f"{key[0]}\0{key[4]}".encode(), digest_size=8).hexdigest()
