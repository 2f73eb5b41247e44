"""Near-duplicates of a whole list of texts: keep-first and connected components.

Keep-first is the paper's deduplication (Stage I, step 3): in input order, a text is dropped if it
is a duplicate of an earlier text *that was kept*. Duplication is not transitive, so for splits
without leakage that is not enough: ``components`` joins everything that a chain of duplicates
connects, and a split that keeps components whole separates no two duplicates.
What counts as a duplicate is in ``rule``.

On the 20,148 published prompts with tau = 10, codes alone drop 552 texts (473 when texts under
eight words are compared by equality only); verification at 0.7 leaves 319 (308), of which 192 are
equal once normalised.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Literal

import numpy as np
import numpy.typing as npt

from misalign_bench.simhash.neighbours import SHORT, Neighbourhood, neighbourhood
from misalign_bench.simhash.rule import SHORT_WORDS, TAU, VERIFY, Rule
from misalign_bench.simhash.verify import similarities


@dataclass(frozen=True, slots=True)
class Drop:
    """One dropped text: which kept text it duplicates, and how nearly."""

    index: int
    of: int
    distance: int
    jaccard: float
    reason: Literal["identical", "near"]


@dataclass(frozen=True, slots=True)
class Deduplicated:
    """What keep-first did.

    Attributes:
        kept: positions of the kept texts, ascending.
        dropped: the others, in order, each with its reason.
        pairs: pairs that were proposed: two codes within tau, or a copy and its original.
        verified_out: kept texts that had a kept text within tau and only verification saved.
    """

    kept: list[int]
    dropped: list[Drop]
    pairs: int
    verified_out: int

    @property
    def by_distance(self) -> dict[int, int]:
        """How many texts were dropped at each Hamming distance, nearest first."""
        return dict(sorted(Counter(drop.distance for drop in self.dropped).items()))

    @property
    def by_reason(self) -> dict[str, int]:
        """How many texts were dropped as identical and as near."""
        counts = Counter(drop.reason for drop in self.dropped)
        return {"identical": counts["identical"], "near": counts["near"]}


def keep_first(
    texts: Sequence[str],
    tau: int = TAU,
    verify: float | None = VERIFY,
    *,
    short_words: int = SHORT_WORDS,
) -> Deduplicated:
    """Drop each text that duplicates an earlier text that was kept.

    Args:
        texts: the texts, in order of preference.
        tau: the largest Hamming distance between two codes, 0 to 32.
        verify: the least exact Jaccard similarity, or None for the codes alone.
        short_words: texts with fewer words are dropped only when equal once normalised.

    Returns:
        What was kept and what was dropped, each with its nearest kept text (the earliest of
        equally near ones).

    >>> first = "Write a short poem about the sea in winter"
    >>> keep_first([first, "Boil an egg", first + "!", "Boil an egg?", "Fry an egg"]).dropped
    ... # doctest: +NORMALIZE_WHITESPACE
    [Drop(index=2, of=0, distance=0, jaccard=1.0, reason='identical'),
     Drop(index=3, of=1, distance=0, jaccard=1.0, reason='identical')]
    """
    rule = Rule(tau, verify, short_words)
    around = neighbourhood(texts, rule)
    similarity = similarities(around.forms)
    kept: list[int] = []
    dropped: list[Drop] = []
    verified_out = 0
    first_of: dict[int, int] = {}  # form -> the kept text that has it
    members: dict[int, list[int]] = {}  # group -> its kept forms
    for index, form in enumerate(around.form_of):
        if form in first_of:
            dropped.append(Drop(index, first_of[form], 0, 1.0, "identical"))
            continue
        group = around.group_of[form]
        refused = False
        for distance, other in _nearest_kept(around, group, members, first_of):
            score = similarity(form, other)
            if verify is None or score >= verify:
                dropped.append(Drop(index, first_of[other], distance, score, "near"))
                break
            refused = True
        else:
            kept.append(index)
            verified_out += refused
            first_of[form] = index
            if group != SHORT:
                members.setdefault(group, []).append(form)
    return Deduplicated(kept, dropped, around.proposals, verified_out)


def components(
    texts: Sequence[str],
    tau: int = TAU,
    verify: float | None = VERIFY,
    *,
    short_words: int = SHORT_WORDS,
) -> npt.NDArray[np.int64]:
    """Return for each text the cluster it belongs to, named by the cluster's first position.

    Two texts have the same cluster exactly if a chain of duplicates leads from one to the other.
    The arguments are those of ``keep_first``; here the order of the texts decides only the names.

    >>> components(["Boil an egg", "Fry an egg", "boil an egg."]).tolist()
    [0, 1, 0]
    """
    rule = Rule(tau, verify, short_words)
    around = neighbourhood(texts, rule)
    similarity = similarities(around.forms)
    parent = list(range(len(around.forms)))
    for one, other in _proposed(around):
        a, b = _root(parent, one), _root(parent, other)
        if a != b and (verify is None or similarity(one, other) >= verify):
            # Forms are numbered by first appearance, so the smaller root names the cluster.
            parent[max(a, b)] = min(a, b)
    roots = np.array([_root(parent, form) for form in around.form_of], dtype=np.int64)
    first_text = np.unique(around.form_of, return_index=True)[1]
    return first_text[roots] if len(roots) else roots


def _nearest_kept(
    around: Neighbourhood, group: int, members: dict[int, list[int]], first_of: dict[int, int]
) -> Iterator[tuple[int, int]]:
    """Yield (distance, form) of kept forms within tau, nearest first, then earliest first."""
    if group == SHORT:
        return
    near = [(distance, form) for distance, g in around.near(group) for form in members.get(g, ())]
    yield from sorted(near, key=lambda found: (found[0], first_of[found[1]]))


def _proposed(around: Neighbourhood) -> Iterator[tuple[int, int]]:
    """Yield every pair of different forms whose codes are within tau."""
    members: dict[int, list[int]] = {}
    for form, group in enumerate(around.group_of):
        if group != SHORT:
            members.setdefault(group, []).append(form)
    for forms in members.values():
        yield from combinations(forms, 2)
    for i, j in zip(around.pairs.i.tolist(), around.pairs.j.tolist(), strict=True):
        yield from product(members[i], members[j])


def _root(parent: list[int], form: int) -> int:
    """Return the representative of a form's cluster, shortening the way there."""
    while parent[form] != form:
        parent[form] = parent[parent[form]]
        form = parent[form]
    return form
