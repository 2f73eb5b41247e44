"""The exact similarity of two texts, for pairs that their codes propose.

A code is a sketch: at tau = 10 most of the merges that it proposes on real prompts are of different
requests that share a template. The Jaccard similarity of the same sets of character 4-grams that
the code was made of (shared / all) decides without error, on the few proposed pairs only. It is of
character 4-grams also where codes were made of other features.

With the extra ``fast``, many pairs are decided by a kernel that compares the 4-grams themselves,
four code points of 16 bits in a word, not hashes of them: so it is as exact. Texts with other code
points, or shorter than a 4-gram, go the way of Python's sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from misalign_bench.simhash.fast import use_kernels
from misalign_bench.simhash.features import code_points
from misalign_bench.simhash.fingerprint import normalise

GRAM = 4
"""Characters in a feature that is compared."""

_CACHED = 4096
_BLOCK = 1 << 15


def jaccard(a: str, b: str) -> float:
    """Return shared / all of the character 4-grams of two texts, from 0 to 1.

    Two texts that are empty once normalised are the same text: 1.0.

    >>> jaccard("Name the capital of France.", "name the capital of  FRANCE")
    1.0
    >>> jaccard("abcde", "abcdx")
    0.3333333333333333
    """
    return overlap(grams(normalise(a)), grams(normalise(b)))


def verify_pairs(
    texts: Sequence[str], i: npt.NDArray[Any], j: npt.NDArray[Any], threshold: float
) -> npt.NDArray[np.bool_]:
    """Say of each pair whether its exact Jaccard similarity reaches the threshold.

    Args:
        texts: the texts that the pairs point into.
        i: position of the first text of each pair.
        j: position of the second.
        threshold: the least similarity, 0 to 1; a pair that has exactly this one is confirmed.

    Returns:
        One truth value per pair.
    """
    normals: dict[int, str] = {}
    for position in np.union1d(i, j).tolist():
        normals[position] = normalise(texts[position])
    return Similarities(normals).of(np.asarray(i), np.asarray(j)) >= threshold


class Similarities:
    """The similarities of normalised texts, each named by a number.

    It keeps a bounded number of sets, because proposed pairs come in bunches.
    """

    def __init__(self, normals: Sequence[str] | dict[int, str]) -> None:
        """Take the texts; nothing is computed yet."""
        self._normals = normals
        self._grams = lru_cache(maxsize=_CACHED)(lambda number: grams(normals[number]))

    def of(self, i: npt.NDArray[Any], j: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return the similarity of each pair; pairs with the same ``i`` are best side by side."""
        scores = np.empty(len(i))
        kernel = use_kernels(len(i))
        for at in range(0, len(i), _BLOCK):
            span = slice(at, at + _BLOCK)
            scores[span] = (
                self._by_kernel(i[span], j[span]) if kernel else self._by_sets(i[span], j[span])
            )
        return scores

    def one(self, a: int, b: int) -> float:
        """Return the similarity of one pair."""
        return overlap(self._grams(a), self._grams(b))

    def _by_sets(self, i: npt.NDArray[Any], j: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        return np.fromiter(map(self.one, i.tolist(), j.tolist()), dtype=np.float64, count=len(i))

    def _by_kernel(self, i: npt.NDArray[Any], j: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        from misalign_bench.simhash.verify_kernel import similarities

        numbers, position = np.unique(np.concatenate((i, j)), return_inverse=True)
        normals = [self._normals[number] for number in numbers.tolist()]
        lengths = np.fromiter(map(len, normals), dtype=np.int64, count=len(normals))
        ends = np.cumsum(lengths)
        points = code_points(normals)
        scores = np.empty(len(i))
        similarities(points, ends, position[: len(i)], position[len(i) :], scores)
        for pair in np.flatnonzero(scores < 0).tolist():  # not for the kernel
            scores[pair] = self.one(int(i[pair]), int(j[pair]))
        return scores


def grams(normal: str) -> frozenset[str]:
    """Return the set of character 4-grams of a normalised text; of a shorter one, itself."""
    if len(normal) < GRAM:
        return frozenset({normal} if normal else ())
    return frozenset(normal[k : k + GRAM] for k in range(len(normal) - GRAM + 1))


def overlap(a: frozenset[str], b: frozenset[str]) -> float:
    """Return the Jaccard similarity of two sets of features."""
    shared = len(a & b)
    total = len(a) + len(b) - shared
    return shared / total if total else 1.0
