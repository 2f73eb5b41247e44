"""The exact similarity of two texts, for pairs that their codes propose.

A code is a sketch: at tau = 10 most of the merges that it proposes on real prompts are of different
requests that share a template. The Jaccard similarity of the same sets of character 4-grams that
the code was made of (shared / all) decides without error, on the few proposed pairs only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from misalign_bench.simhash.fingerprint import GRAM, normalise

_CACHED = 4096


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
    similarity = similarities([normalise(text) for text in texts])
    return np.array(
        [similarity(int(a), int(b)) >= threshold for a, b in zip(i, j, strict=True)], dtype=bool
    )


def similarities(normals: Sequence[str]) -> Callable[[int, int], float]:
    """Return a function of two positions in a list of normalised texts: their similarity.

    It remembers a bounded number of sets and results, because proposed pairs come in bunches.
    """

    @lru_cache(maxsize=_CACHED)
    def features(position: int) -> frozenset[str]:
        return grams(normals[position])

    @lru_cache(maxsize=_CACHED)
    def similarity(a: int, b: int) -> float:
        return overlap(features(a), features(b))

    return similarity


def grams(normal: str) -> frozenset[str]:
    """Return the features of a normalised text, as ``fingerprint`` defines them."""
    if len(normal) < GRAM:
        return frozenset({normal} if normal else ())
    return frozenset(normal[k : k + GRAM] for k in range(len(normal) - GRAM + 1))


def overlap(a: frozenset[str], b: frozenset[str]) -> float:
    """Return the Jaccard similarity of two sets of features."""
    shared = len(a & b)
    total = len(a) + len(b) - shared
    return shared / total if total else 1.0
