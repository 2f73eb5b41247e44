"""Who could be a duplicate of whom: the proposals that keep-first and components decide on.

Texts that are equal once normalised are one *form*; long forms with the same code are one *group*;
near pairs are searched between groups. So copies, of texts or of codes, cost no comparisons.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from misalign_bench.simhash.fingerprint import fingerprint_normalised, normalise
from misalign_bench.simhash.pairs import Pairs, near_pairs
from misalign_bench.simhash.rule import Rule

SHORT = -1
"""The group of every form that is too short to be compared by its code."""


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """The forms of a list of texts, their groups, and the pairs of groups within tau.

    Attributes:
        forms: distinct normalised texts, in order of first appearance.
        form_of: for each text, the position of its form.
        group_of: for each form, its group, or ``SHORT``.
        pairs: pairs of different groups within tau.
        starts: where the neighbours of each group begin in the two columns that follow.
        others: the neighbours, both ways round, nearest first within a group.
        distances: their distances.
    """

    forms: list[str]
    form_of: list[int]
    group_of: list[int]
    pairs: Pairs
    starts: npt.NDArray[np.intp]
    others: npt.NDArray[np.int64]
    distances: npt.NDArray[np.uint8]

    @property
    def proposals(self) -> int:
        """How many pairs were proposed: near groups, and each further text of a form or group."""
        short = self.group_of.count(SHORT)
        groups = len(self.starts) - 1
        return len(self.pairs.i) + len(self.form_of) - short - groups

    def near(self, group: int) -> Iterator[tuple[int, int]]:
        """Yield (distance, group) of the group itself and of all within tau, nearest first."""
        yield 0, group
        span = slice(self.starts[group], self.starts[group + 1])
        yield from zip(self.distances[span].tolist(), self.others[span].tolist(), strict=True)


def neighbourhood(texts: Sequence[str], rule: Rule) -> Neighbourhood:
    """Group the texts and find the groups within the rule's tau of each other."""
    position: dict[str, int] = {}
    form_of = [position.setdefault(normalise(text), len(position)) for text in texts]
    forms = list(position)
    long = [k for k, form in enumerate(forms) if not rule.is_short(form)]
    codes = fingerprint_normalised([forms[k] for k in long])
    distinct, inverse = np.unique(codes, return_inverse=True)
    groups = np.full(len(forms), SHORT)
    groups[long] = inverse
    pairs = near_pairs(distinct, rule.tau)
    ones, others = np.concatenate((pairs.i, pairs.j)), np.concatenate((pairs.j, pairs.i))
    distance = np.concatenate((pairs.distance, pairs.distance))
    order = np.lexsort((others, distance, ones))
    return Neighbourhood(
        forms,
        form_of,
        groups.tolist(),
        pairs,
        np.searchsorted(ones[order], np.arange(len(distinct) + 1)),
        others[order],
        distance[order],
    )
