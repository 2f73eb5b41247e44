"""What is true, found without any sketch: all pairs of texts that are similar, and what was found.

Exact similarity join by prefix filtering (Chaudhuri, Ganti, Kaushik 2006; with the positional
filter of Xiao and others 2008, *Efficient Similarity Joins for Near Duplicate Detection*): two sets
that are at least t similar share one of their rarest few elements.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from contender import Rows

Keys = npt.NDArray[np.uint64]


def similar_pairs(sets: Sequence[frozenset[str]], least: float) -> list[tuple[int, int]]:
    """Return every pair of sets whose Jaccard similarity is at least ``least``."""
    common = Counter(element for one in sets for element in one)
    rank = {element: k for k, (_, element) in enumerate(sorted((n, e) for e, n in common.items()))}
    met: dict[int, list[tuple[int, int]]] = defaultdict(list)  # element -> (set, position in it)
    found: list[tuple[int, int]] = []
    for k in sorted(range(len(sets)), key=lambda k: len(sets[k])):
        ranks = sorted(rank[element] for element in sets[k])
        size, candidates = len(ranks), set()
        for position, element in enumerate(ranks[: size - math.ceil(least * size - 1e-9) + 1]):
            for other, at in met[element]:
                smaller = len(sets[other])
                shared = least / (1 + least) * (size + smaller) - 1e-9
                if min(size - position, smaller - at) >= shared:
                    candidates.add(other)
            met[element].append((k, position))
        for other in candidates:
            shared = len(sets[k] & sets[other])
            if shared >= least * (size + len(sets[other]) - shared):
                found.append((min(k, other), max(k, other)))
    return found


def groups(values: npt.NDArray[Any]) -> Rows:
    """Return for each position the number of its group of equal values."""
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def keys(group: Rows, pairs: Rows) -> Keys:
    """Return the pairs of different groups among pairs of positions, each once, as numbers.

    Contenders differ in what they report: both directions, a position with itself, each copy of
    a code or only the first. The pairs of groups are what all of them mean.
    """
    one, other = group[pairs[0]], group[pairs[1]]
    low, high = np.minimum(one, other), np.maximum(one, other)
    apart = low != high
    numbers = low[apart].astype(np.uint64) << np.uint64(32) | high[apart].astype(np.uint64)
    return np.unique(np.asarray(numbers, dtype=np.uint64))


def touching(pairs: Keys, group: Rows, rows: Rows) -> Keys:
    """Return the pairs with an end among the groups of these rows."""
    asked = np.zeros(int(group.max(initial=0)) + 1, dtype=bool)
    asked[group[rows]] = True
    low, high = pairs >> np.uint64(32), pairs & np.uint64(0xFFFFFFFF)
    touched: Keys = pairs[asked[low.astype(np.int64)] | asked[high.astype(np.int64)]]
    return touched


def agreement(found: Keys, true: Keys) -> dict[str, int]:
    """Count the true pairs, those of them that were found, and what was found but is not true."""
    both = len(np.intersect1d(found, true, assume_unique=True))
    return {"true": len(true), "hits": both, "wrong": len(found) - both}
