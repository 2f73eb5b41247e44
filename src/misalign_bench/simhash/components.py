"""Connected components of the duplicate relation, nearest pairs joined first.

Joining the nearest pairs first makes the joins a minimum spanning forest, so how many there are at
each distance does not depend on any order. A pair whose ends are in one component already can
change nothing, and is not verified.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from misalign_bench.simhash.neighbours import Neighbourhood
from misalign_bench.simhash.pairs import MAX_PAIRS, TooManyPairs
from misalign_bench.simhash.products import Positions, products
from misalign_bench.simhash.verify import Similarities


@dataclass(frozen=True, slots=True)
class Clustered:
    """The clusters of some texts, and how they came together.

    Attributes:
        labels: for each text, the first position of its cluster.
        by_distance: joins at each Hamming distance, of which texts - clusters are needed.
        by_reason: joins of texts equal once normalised, and of near ones.
        verified_out: further joins that the codes alone would have made.
    """

    labels: npt.NDArray[np.int64]
    by_distance: dict[int, int]
    by_reason: dict[str, int]
    verified_out: int


def join_components(around: Neighbourhood, verify: float | None) -> Clustered:
    """Return the connected components of some texts.

    Args:
        around: the texts' forms and their near pairs.
        verify: the least similarity of a pair that joins, or None to join all near pairs.

    Raises:
        TooManyPairs: more than ``MAX_PAIRS`` pairs would have to be verified.
    """
    forest = _Forest(len(around.forms))
    copies = len(around.form_of) - len(around.forms)
    by_distance = Counter({0: copies})
    similarities = Similarities(around.forms)
    for distance, ones, others in _chained(around) if verify is None else _proposed(around):
        if verify is None:
            by_distance[distance] += forest.join(ones, others)
            continue
        apart = forest.roots(ones) != forest.roots(others)
        one, other = ones[apart], others[apart]
        sure = similarities.of(one, other) >= verify
        by_distance[distance] += forest.join(one[sure], other[sure])
    roots = forest.roots(around.form_of)
    first_text = np.unique(around.form_of, return_index=True)[1].astype(np.int64)
    joins = sum(by_distance.values())
    return Clustered(
        first_text[roots],
        {distance: count for distance, count in sorted(by_distance.items()) if count},
        {"identical": copies, "near": joins - copies},
        _joins_by_code(around) - (joins - copies) if verify is not None else 0,
    )


def _joins_by_code(around: Neighbourhood) -> int:
    """Count the joins of forms that the codes alone make."""
    forest = _Forest(len(around.forms))
    return sum(forest.join(one, other) for _, one, other in _chained(around))


def _chained(around: Neighbourhood) -> Iterator[tuple[int, Positions, Positions]]:
    """Yield pairs of forms that join what the codes join: groups in a chain, and their heads."""
    within = np.diff(around.group_of[around.members]) == 0
    yield 0, around.members[:-1][within], around.members[1:][within]
    heads = around.members[around.member_starts[:-1]]
    for distance in range(1, int(around.pairs.distance.max(initial=0)) + 1):
        at = around.pairs.distance == distance
        yield distance, heads[around.pairs.i[at]], heads[around.pairs.j[at]]


def _proposed(around: Neighbourhood) -> Iterator[tuple[int, Positions, Positions]]:
    """Yield every pair of different forms whose codes are within tau, nearest first, in blocks."""
    starts, members, pairs = around.member_starts, around.members, around.pairs
    sizes = np.diff(starts)
    count = int((sizes[pairs.i] * sizes[pairs.j]).sum() + (sizes * (sizes - 1) // 2).sum())
    if count > MAX_PAIRS:
        raise TooManyPairs(
            f"{count:,} pairs of texts would have to be verified, more than {MAX_PAIRS:,}; "
            "take a smaller tau, fewer texts or no verification"
        )
    full = np.flatnonzero(sizes > 1)
    for one, other in products(starts, full, full):
        once = one < other
        yield 0, members[one[once]], members[other[once]]
    for distance in range(1, int(pairs.distance.max(initial=0)) + 1):
        at = pairs.distance == distance
        for one, other in products(starts, pairs.i[at], pairs.j[at]):
            yield distance, members[one], members[other]


class _Forest:
    """Disjoint sets of forms; the smallest form of a set is its root."""

    def __init__(self, size: int) -> None:
        self._parent = np.arange(size)

    def roots(self, forms: Positions) -> Positions:
        """Return the root of each form, shortening the ways there."""
        found = self._parent[forms]
        while True:
            above = self._parent[found]
            if np.array_equal(above, found):
                break
            found = above
        self._parent[forms] = found
        return found

    def join(self, one: Positions, other: Positions) -> int:
        """Join pairs of forms and return how many joins were not there yet."""
        ones, others = self.roots(one), self.roots(other)
        apart = ones != others
        joins = 0
        for a, b in zip(ones[apart].tolist(), others[apart].tolist(), strict=True):
            low, high = sorted((self._root(a), self._root(b)))
            if low != high:
                # Forms are numbered by first appearance, so the smaller root names the set.
                self._parent[high] = low
                joins += 1
        return joins

    def _root(self, form: int) -> int:
        parent = self._parent
        while (above := int(parent[form])) != form:
            parent[form] = parent[above]
            form = above
        return form
