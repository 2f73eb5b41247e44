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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from misalign_bench.simhash.components import Clustered, join_components
from misalign_bench.simhash.features import DEFAULT, Features
from misalign_bench.simhash.neighbours import Neighbourhood, neighbourhood
from misalign_bench.simhash.rule import SHORT_WORDS, TAU, VERIFY, Rule
from misalign_bench.simhash.verify import Similarities

_CANDIDATES = 1 << 18


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
    features: Features | str = DEFAULT,
) -> Deduplicated:
    """Drop each text that duplicates an earlier text that was kept.

    Args:
        texts: the texts, in order of preference.
        tau: the largest Hamming distance between two codes, 0 to 32.
        verify: the least exact Jaccard similarity, or None for the codes alone.
        short_words: texts with fewer words are dropped only when equal once normalised.
        features: what the codes are made of.

    Returns:
        What was kept and what was dropped, each with its nearest kept text (the earliest of
        equally near ones).

    Raises:
        TooManyPairs: the codes are so alike that their near pairs would not fit in memory.

    >>> first = "Write a short poem about the sea in winter"
    >>> keep_first([first, "Boil an egg", first + "!", "Boil an egg?", "Fry an egg"]).dropped
    ... # doctest: +NORMALIZE_WHITESPACE
    [Drop(index=2, of=0, distance=0, jaccard=1.0, reason='identical'),
     Drop(index=3, of=1, distance=0, jaccard=1.0, reason='identical')]
    """
    rule = Rule(tau, verify, short_words)
    around = neighbourhood(texts, rule, features)
    state = _State(around, Similarities(around.forms), verify)
    first_text = np.unique(around.form_of, return_index=True)[1].tolist()
    scored = state.scored()
    kept: list[int] = []
    drops: list[tuple[int, int, int, int]] = []  # text, form, kept form, distance
    verified_out = 0
    for index, form in enumerate(around.form_of.tolist()):
        new = first_text[form] == index
        if not new and not state.lost[form]:
            drops.append((index, form, form, 0))
            continue
        if not state.busy[form]:
            kept.append(index)
            continue
        near = state.nearest(form) if state.crowded[form] or not new else next(scored)
        match, refused = state.decide(form, near)
        if match is None:
            kept.append(index)
            verified_out += refused
            state.keep(form)
        else:
            drops.append((index, form, *match))
            state.lost[form] = True
    return Deduplicated(
        kept, _drops(drops, first_text, state.similarities), around.proposals, verified_out
    )


def components(
    texts: Sequence[str],
    tau: int = TAU,
    verify: float | None = VERIFY,
    *,
    short_words: int = SHORT_WORDS,
    features: Features | str = DEFAULT,
) -> npt.NDArray[np.int64]:
    """Return for each text the cluster it belongs to, named by the cluster's first position.

    Two texts have the same cluster exactly if a chain of duplicates leads from one to the other.
    The arguments are those of ``keep_first``; here the order of the texts decides only the names.

    >>> components(["Boil an egg", "Fry an egg", "boil an egg."]).tolist()
    [0, 1, 0]
    """
    return cluster(texts, tau, verify, short_words=short_words, features=features).labels


def cluster(
    texts: Sequence[str],
    tau: int = TAU,
    verify: float | None = VERIFY,
    *,
    short_words: int = SHORT_WORDS,
    features: Features | str = DEFAULT,
) -> Clustered:
    """Return what ``components`` returns, with a report of how the clusters came together.

    >>> cluster(["Boil an egg", "Fry an egg", "boil an egg."]).by_reason
    {'identical': 1, 'near': 0}
    """
    rule = Rule(tau, verify, short_words)
    return join_components(neighbourhood(texts, rule, features), verify)


class _State:
    """What keep-first knows of the forms: which were kept, and who is near them."""

    def __init__(
        self, around: Neighbourhood, similarities: Similarities, verify: float | None
    ) -> None:
        self.similarities = similarities
        self._around = around
        self._verify = verify
        counts, crowd = around.reach()
        # A short form has the group -1, which picks the last entry here.
        counts, crowd = np.append(counts, 0), np.append(crowd, False)
        self.busy = counts[around.group_of] > 1
        self.crowded = crowd[around.group_of]
        self.lost = np.zeros(len(around.forms), dtype=bool)
        self._reach = counts[around.group_of]
        self._kept: dict[int, list[int]] = {}  # group -> its kept forms

    def keep(self, form: int) -> None:
        """Remember a kept form."""
        self._kept.setdefault(int(self._around.group_of[form]), []).append(form)

    def decide(
        self, form: int, near: Iterable[tuple[int, int, float]]
    ) -> tuple[tuple[int, int] | None, bool]:
        """Return the first kept form that this one duplicates, with its distance, if any.

        The second value says whether verification refused a kept form before.
        """
        refused = False
        for distance, other, score in near:
            if self.lost[other]:
                continue
            if self._verify is None or score >= self._verify:
                return (other, distance), refused
            refused = True
        return None, refused

    def nearest(self, form: int) -> Iterator[tuple[int, int, float]]:
        """Yield (distance, form, similarity) of the kept forms within tau, nearest first."""
        around = self._around
        group = around.group_of[form]
        span = slice(around.near_starts[group], around.near_starts[group + 1])
        near = zip(around.distances[span].tolist(), around.near[span].tolist(), strict=True)
        found = [(distance, other) for distance, g in near for other in self._kept.get(g, ())]
        for distance, other in sorted(found):
            score = 1.0 if self._verify is None else self.similarities.one(form, other)
            yield distance, other, score

    def scored(self) -> Iterator[list[tuple[int, int, float]]]:
        """Yield the same for each form that is busy and not crowded, in order.

        The similarities of many pairs are computed at once, so some forms may turn out to be lost.
        """
        forms = np.flatnonzero(self.busy & ~self.crowded)
        ends = np.cumsum(self._reach[forms])
        at = 0
        while at < len(forms):
            done = ends[at - 1] if at else 0
            until = max(at + 1, int(np.searchsorted(ends, done + _CANDIDATES, side="right")))
            batch = forms[at:until]
            form, other, distance = self._around.candidates(batch)
            alive = ~self.lost[other]
            form, other, distance = form[alive], other[alive], distance[alive]
            if self._verify is None:
                scores: npt.NDArray[np.float64] = np.ones(len(form))
            else:
                scores = self.similarities.of(form, other)
            rows = list(zip(distance.tolist(), other.tolist(), scores.tolist(), strict=True))
            starts = np.searchsorted(form, batch).tolist()
            stops = np.searchsorted(form, batch, side="right").tolist()
            for start, stop in zip(starts, stops, strict=True):
                yield rows[start:stop]
            at = until


def _drops(
    drops: list[tuple[int, int, int, int]], first_text: list[int], similarities: Similarities
) -> list[Drop]:
    """Write the drops out, each with its similarity."""
    near = [(form, other) for _, form, other, _ in drops if form != other]
    pairs = np.array(near, dtype=np.intp).reshape(-1, 2)
    scores = iter(similarities.of(pairs[:, 0], pairs[:, 1]).tolist())
    return [
        Drop(index, first_text[other], distance, 1.0, "identical")
        if form == other
        else Drop(index, first_text[other], distance, next(scores), "near")
        for index, form, other, distance in drops
    ]
