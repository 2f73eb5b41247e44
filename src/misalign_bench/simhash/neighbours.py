"""Who could be a duplicate of whom: the proposals that keep-first and components decide on.

Texts that are equal once normalised are one *form*; long forms with the same code are one *group*;
near pairs are searched between groups. So copies, of texts or of codes, cost no comparisons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from misalign_bench.simhash.features import DEFAULT, Features
from misalign_bench.simhash.fingerprint import fingerprint_normalised, normalise
from misalign_bench.simhash.pairs import Pairs, near_pairs
from misalign_bench.simhash.products import Positions, spread
from misalign_bench.simhash.rule import Rule

SHORT = -1
"""The group of every form that is too short to be compared by its code."""

CROWDED = 8
"""A group of more forms than this is never written out, pair by pair."""


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """The forms of a list of texts, their groups, and the pairs of groups within tau.

    Attributes:
        forms: distinct normalised texts, in order of first appearance.
        form_of: for each text, the position of its form.
        group_of: for each form, its group, or ``SHORT``.
        members: the long forms, group by group, ascending in each.
        member_starts: where the members of each group begin, and the end.
        pairs: pairs of different groups within tau.
        near: for each group, the groups within tau, itself first, then nearest first.
        distances: their distances.
        near_starts: where the entries of each group begin in these two, and the end.
    """

    forms: list[str]
    form_of: npt.NDArray[np.intp]
    group_of: npt.NDArray[np.intp]
    members: Positions
    member_starts: Positions
    pairs: Pairs
    near: npt.NDArray[np.int64]
    distances: npt.NDArray[np.uint8]
    near_starts: Positions

    @property
    def proposals(self) -> int:
        """How many pairs were proposed: near groups, and each further text of a form or group."""
        short = int(np.count_nonzero(self.group_of == SHORT))
        groups = len(self.member_starts) - 1
        return len(self.pairs.i) + len(self.form_of) - short - groups

    def candidates(self, forms: Positions) -> tuple[Positions, Positions, npt.NDArray[np.uint8]]:
        """Return each pair of one of these long forms and an earlier form within tau of it.

        Returns:
            The forms, the earlier forms and the distances, sorted by form, then nearest first,
            then earliest first.
        """
        groups = self.group_of[forms]
        which, entry = spread(self.near_starts[groups], self.near_starts[groups + 1])
        near = self.near[entry]
        inner, place = spread(self.member_starts[near], self.member_starts[near + 1])
        form, other = forms[which[inner]], self.members[place]
        distance = self.distances[entry[inner]]
        earlier = other < form
        form, other, distance = form[earlier], other[earlier], distance[earlier]
        order = np.lexsort((other, distance, form))
        return form[order], other[order], distance[order]

    def reach(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Return for each group how many forms are within tau, and if some are in a crowd."""
        sizes = np.diff(self.member_starts)
        if not len(sizes):
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.bool_)
        near_sizes = sizes[self.near]
        counts = np.add.reduceat(near_sizes, self.near_starts[:-1])
        crowd = np.maximum.reduceat(near_sizes, self.near_starts[:-1]) > CROWDED
        return counts, crowd


def neighbourhood(
    texts: Sequence[str], rule: Rule, features: Features | str = DEFAULT
) -> Neighbourhood:
    """Group the texts and find the groups within the rule's tau of each other."""
    position: dict[str, int] = {}
    form_of = np.fromiter(
        (position.setdefault(normalise(text), len(position)) for text in texts),
        dtype=np.intp,
        count=len(texts),
    )
    forms = list(position)
    del position
    long = np.array([k for k, form in enumerate(forms) if not rule.is_short(form)], dtype=np.intp)
    codes = fingerprint_normalised([forms[k] for k in long.tolist()], features)
    distinct, inverse = np.unique(codes, return_inverse=True)
    groups = np.full(len(forms), SHORT, dtype=np.intp)
    groups[long] = inverse
    by_group = np.argsort(inverse, kind="stable")
    member_starts = np.searchsorted(inverse[by_group], np.arange(len(distinct) + 1))
    pairs = near_pairs(distinct, rule.tau)
    near, distances, near_starts = _both_ways(pairs, len(distinct))
    return Neighbourhood(
        forms,
        form_of,
        groups,
        long[by_group],
        member_starts,
        pairs,
        near,
        distances,
        near_starts,
    )


def _both_ways(
    pairs: Pairs, groups: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8], Positions]:
    """List for each group itself and its near groups."""
    itself = np.arange(groups)
    ones = np.concatenate((itself, pairs.i, pairs.j))
    others = np.concatenate((itself, pairs.j, pairs.i))
    distance = np.concatenate((np.zeros(groups, dtype=np.uint8), pairs.distance, pairs.distance))
    order = np.lexsort((others, distance, ones))
    starts = np.searchsorted(ones[order], np.arange(groups + 1))
    return others[order], distance[order], starts
