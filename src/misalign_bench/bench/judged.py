"""Verdicts as they are settled, packed, so that memory does not grow with what models say.

A verdict with its reasons, spans and keys takes some kilobytes as records and a twentieth of that
packed. They come back as records, in the order of items and epochs, a batch at a time.
"""

from __future__ import annotations

import marshal
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from misalign_bench.records import Answer, Reason, Unscored, Verdict

_BATCH = 1_000
_OPENED = 4


@dataclass(frozen=True, slots=True)
class Judged:
    """One verdict: on which item (its position), in which epoch."""

    item: int
    epoch: int
    verdict: Verdict


class JudgedLog(Sequence[Judged]):
    """Takes verdicts in any order and gives them back by (item, epoch)."""

    def __init__(self) -> None:
        self._places: list[array[int]] = [array("q"), array("q")]
        self._batches: list[bytes] = []
        self._last: list[tuple[Any, ...]] = []
        self._order: array[int] | None = None
        self._opened: dict[int, list[tuple[Any, ...]]] = {}

    def append(self, judged: Judged) -> None:
        """Take one more."""
        for places, place in zip(self._places, (judged.item, judged.epoch), strict=True):
            places.append(place)
        self._last.append(_packed(judged))
        self._order = None
        if len(self._last) == _BATCH:
            # Within a batch marshal writes equal strings once; its format never leaves the process.
            self._batches.append(zlib.compress(marshal.dumps(self._last), 1))
            self._last = []

    def __len__(self) -> int:
        return len(self._places[0])

    @overload
    def __getitem__(self, position: int) -> Judged: ...

    @overload
    def __getitem__(self, position: slice) -> list[Judged]: ...

    def __getitem__(self, position: int | slice) -> Judged | list[Judged]:
        order = self._sorted()
        if isinstance(position, slice):
            return [self._read(place) for place in order[position]]
        return self._read(order[position])

    def __iter__(self) -> Iterator[Judged]:
        return map(self._read, self._sorted())

    def _sorted(self) -> array[int]:
        if self._order is None:
            items, epochs = self._places
            order = sorted(range(len(items)), key=lambda place: (items[place], epochs[place]))
            self._order = array("q", order)
        return self._order

    def _read(self, place: int) -> Judged:
        batch, row = divmod(place, _BATCH)
        if batch == len(self._batches):
            return _unpacked(self._last[row])
        if batch not in self._opened:
            # They were settled almost in order, so a few batches at a time are enough.
            if len(self._opened) == _OPENED:
                del self._opened[next(iter(self._opened))]
            self._opened[batch] = marshal.loads(zlib.decompress(self._batches[batch]))
        return _unpacked(self._opened[batch][row])


def _packed(judged: Judged) -> tuple[Any, ...]:
    answers = [
        (dimension, answer.reason.value, answer.detail)
        if isinstance(answer, Unscored)
        else (dimension, *(getattr(answer, name) for name in Answer.__slots__))
        for dimension, answer in judged.verdict.answers.items()
    ]
    return judged.item, judged.epoch, tuple(judged.verdict.journal_keys), tuple(answers)


def _unpacked(row: tuple[Any, ...]) -> Judged:
    item, epoch, keys, answers = row
    verdict = {
        dimension: Unscored(Reason(fields[0]), fields[1]) if len(fields) == 2 else Answer(*fields)
        for dimension, *fields in answers
    }
    return Judged(item, epoch, Verdict(verdict, keys))
