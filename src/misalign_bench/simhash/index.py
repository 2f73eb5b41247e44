"""The duplicate rule for a stream: is this text a duplicate of one that was kept before?

``DuplicateIndex`` decides as ``keep_first`` does on the same texts in the same order. It serves
the steps that meet texts one at a time (expansion, screening); for a whole list at once
``keep_first`` is faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from misalign_bench.simhash.features import DEFAULT, Features
from misalign_bench.simhash.fingerprint import Codes, fingerprint_normalised, normalise
from misalign_bench.simhash.rule import SHORT_WORDS, TAU, VERIFY, Rule
from misalign_bench.simhash.tiles import bit_counts
from misalign_bench.simhash.verify import grams, overlap


@dataclass(frozen=True, slots=True)
class Match:
    """The kept text that a text duplicates.

    Attributes:
        index: how many texts ``add`` had been offered before the kept one.
        distance: the Hamming distance between the two codes; 0 for texts equal once normalised.
        jaccard: the exact similarity of the two.
    """

    index: int
    distance: int
    jaccard: float


class DuplicateIndex:
    """The texts kept so far, searchable for a duplicate of another.

    >>> seen = DuplicateIndex()
    >>> seen.add("Write a short poem about the sea in winter")
    >>> seen.add("write a short poem about the sea in winter!")
    Match(index=0, distance=0, jaccard=1.0)
    >>> len(seen)
    1
    """

    def __init__(
        self,
        tau: int = TAU,
        verify: float | None = VERIFY,
        *,
        short_words: int = SHORT_WORDS,
        features: Features | str = DEFAULT,
    ) -> None:
        """Start empty; the arguments are those of ``keep_first``."""
        self._features = features
        self._rule = Rule(tau, verify, short_words)
        self._offered = 0
        self._first_of: dict[str, int] = {}
        self._long: list[str] = []
        self._codes: Codes = np.zeros(64, dtype=np.uint64)

    def __len__(self) -> int:
        """Return how many texts are kept."""
        return len(self._first_of)

    def find(self, text: str) -> Match | None:
        """Return the nearest kept text that the text duplicates (ties: the earliest), or None."""
        normal = normalise(text)
        return self._find(normal, fingerprint_normalised([normal], self._features)[0])

    def add(self, text: str) -> Match | None:
        """Keep the text if it duplicates none, and return None; else return its match."""
        return self.add_all([text])[0]

    def add_all(self, texts: Sequence[str]) -> list[Match | None]:
        """Add texts one after the other; their codes are computed together, which is faster."""
        normals = [normalise(text) for text in texts]
        matches: list[Match | None] = []
        codes = fingerprint_normalised(normals, self._features)
        for normal, code in zip(normals, codes, strict=True):
            match = self._find(normal, code)
            if match is None:
                self._keep(normal, code)
            matches.append(match)
            self._offered += 1
        return matches

    def _find(self, normal: str, code: np.uint64) -> Match | None:
        if normal in self._first_of:
            return Match(self._first_of[normal], 0, 1.0)
        if self._rule.is_short(normal):
            return None
        distances = bit_counts(self._codes[: len(self._long)] ^ code)
        near = np.flatnonzero(distances <= self._rule.tau)
        features = grams(normal)
        for position in near[np.argsort(distances[near], kind="stable")].tolist():
            other = self._long[position]
            score = overlap(features, grams(other))
            if self._rule.verify is None or score >= self._rule.verify:
                return Match(self._first_of[other], int(distances[position]), score)
        return None

    def _keep(self, normal: str, code: np.uint64) -> None:
        self._first_of[normal] = self._offered
        if self._rule.is_short(normal):
            return
        if len(self._long) == len(self._codes):
            self._codes = np.concatenate((self._codes, np.zeros_like(self._codes)))
        self._codes[len(self._long)] = code
        self._long.append(normal)
