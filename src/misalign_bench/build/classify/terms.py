"""Words and pairs of words as features beside the sentence vector (tf-idf; Salton 1988).

A term is known by the 32-bit hash of its letters: a head file holds numbers, and none of the words
of the prompts it was fitted on. Two terms that share a hash share a weight, which among a few
thousand terms hardly ever happens.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

Counts = Mapping[int, int]
"""How often each term occurs in a text."""

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")


@dataclass(frozen=True, slots=True)
class Rows:
    """Sparse rows: row r has ``values`` in ``columns`` from ``starts[r]`` to ``starts[r + 1]``."""

    starts: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]
    width: int

    def dense(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return some of the rows with their zeros."""
        block = np.zeros((len(rows), self.width), dtype=np.float32)
        for place, row in enumerate(rows.tolist()):
            span = slice(self.starts[row], self.starts[row + 1])
            block[place, self.columns[span]] = self.values[span]
        return block


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms that count: their hashes in rising order, and how much each weighs."""

    hashes: npt.NDArray[np.uint32]
    weights: npt.NDArray[np.float32]

    def row(self, counts: Counts) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return columns and values of one text: (1 + log count) x weight, of unit length."""
        asked = np.fromiter(counts.keys(), np.uint32, len(counts))
        often = np.fromiter(counts.values(), np.float64, len(counts))
        if not len(self.hashes) or not len(asked):
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        places = np.searchsorted(self.hashes, asked).clip(max=len(self.hashes) - 1)
        known = self.hashes[places] == asked
        columns = places[known]
        order = np.argsort(columns)
        columns = columns[order]
        values = ((1.0 + np.log(often[known]))[order] * self.weights[columns]).astype(np.float64)
        length = np.sqrt(np.square(values).sum())
        return columns, (values / max(length, 1e-12)).astype(np.float32)

    def rows(self, texts: Sequence[Counts]) -> Rows:
        """Return one sparse row for each text."""
        found = [self.row(counts) for counts in texts]
        starts = np.cumsum([0, *(len(columns) for columns, _ in found)], dtype=np.int64)
        columns = np.concatenate([np.zeros(0, np.int64), *(columns for columns, _ in found)])
        values = np.concatenate([np.zeros(0, np.float32), *(values for _, values in found)])
        return Rows(starts, columns, values, len(self.hashes))


def count(text: str) -> Counts:
    """Count the words of a text, and the pairs of words that stand side by side.

    >>> sorted(count("To be, or not to be.").values())
    [1, 1, 1, 1, 1, 2, 2, 2]
    """
    words = _WORD.findall(text.lower())
    terms = [*words, *(" ".join(pair) for pair in pairwise(words))]
    return Counter(zlib.crc32(term.encode("utf-8", "replace")) for term in terms)


def choose(texts: Sequence[Counts], least: int) -> Terms:
    """Keep the terms that at least so many texts hold; a rarer term weighs more."""
    held: Counter[int] = Counter()
    for counts in texts:
        held.update(counts.keys())
    kept = sorted(term for term, often in held.items() if often >= least)
    often = np.array([held[term] for term in kept], dtype=np.float64)
    weights = np.log((1 + len(texts)) / (1 + often)) + 1
    return Terms(np.array(kept, dtype=np.uint32), weights.astype(np.float32))
