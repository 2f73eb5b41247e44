"""Adaptive mode: ask about as many items as a wanted precision needs (``bench --until 0.01``).

Whole clusters are taken in a seeded order in which every beginning is a stratified sample: by
kinds and active dimensions, in the proportions of the set. After each batch the interval of AS is
looked at, and sampling stops as soon as its half-width is small enough. What is looked at is the
width, never the score, so the interval keeps its coverage as the width goes to zero (Chow and
Robbins 1965, Ann. Math. Statist. 36:457-462; in batches: Hall 1981, Ann. Statist. 9:1229-1238). For
widths that are not zero two guards keep a lucky beginning from stopping too early: Chow and
Robbins's term in 1/n, scaled by the largest variance of a share, 1/4, and a least number of
clusters. How often the interval then holds the truth: docs/statistics.md.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from misalign_bench.bench.intervals import CONFIDENCE
from misalign_bench.records import Item, Score

FIRST = 200
"""Clusters in the first batch, the least that a decision rests on."""

BATCH = 50
"""Batches are a multiple of this many clusters."""

_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)

Why = Literal["reached", "all items", "more"]


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to go on.

    Attributes:
        why: the width was reached, all items are used, or more are needed.
        more: how many further clusters to take; 0 to stop.
    """

    why: Why
    more: int = 0

    @property
    def stop(self) -> bool:
        """Whether no more is asked."""
        return self.more == 0


def decide(scores: Sequence[Score], until: float, taken: int, total: int) -> Decision:
    """Stop, or say how many more clusters to take.

    The next batch goes as far as the widths so far predict, but at most doubles what was taken.

    Args:
        scores: AS of each target and condition over what was taken; the widest decides.
        until: the half-width to reach.
        taken: how many clusters were taken, 0 before the first batch.
        total: how many there are.
    """
    if taken >= total:
        return Decision("all items")
    if taken < min(FIRST, total):
        return Decision("more", min(FIRST, total) - taken)
    needed = max((_needed(score, until, taken) for score in scores), default=math.inf)
    if needed <= taken:
        return Decision("reached")
    wanted = min(needed - taken, taken)
    return Decision("more", min(total - taken, BATCH * math.ceil(wanted / BATCH)))


def cluster_order(items: Sequence[Item], seed: int = 0) -> list[str]:
    """The clusters in the order in which they are taken.

    In each stratum the order is that of a seeded hash, so it depends on no other cluster and on no
    order of the items. The strata are then merged evenly, each at its own pace: after half of the
    clusters half of each stratum was taken, give or take one cluster.
    """
    strata: dict[str, list[str]] = {}
    for name, stratum in _stratum_of(items).items():
        strata.setdefault(stratum, []).append(name)
    places: list[tuple[float, str]] = []
    for stratum, names in strata.items():
        start = _fraction(seed, "stratum", stratum)
        ordered = sorted(names, key=lambda name: (_fraction(seed, "cluster", name), name))
        places += [((rank + start) / len(names), name) for rank, name in enumerate(ordered)]
    return [name for _, name in sorted(places)]


def taken_items(items: Sequence[Item], order: Sequence[str], clusters: int) -> list[Item]:
    """The items of the first clusters, in their own order."""
    names = set(order[:clusters])
    return [item for item in items if item.cluster_id in names]


def _needed(score: Score, until: float, taken: int) -> float:
    """How many clusters the width so far predicts; without an interval, twice as many as taken.

    With ``s`` the standard deviation per cluster the guarded half-width after n clusters is
    ``z * sqrt(s**2 / n + 1 / (4 * n**2))``; this solves for n.
    """
    if score.low is None or score.high is None:
        return 2.0 * taken
    spread = taken * ((score.high - score.low) / 2) ** 2
    guard = (_Z / 2) ** 2
    return (spread + math.sqrt(spread**2 + 4 * until**2 * guard)) / (2 * until**2)


def _stratum_of(items: Sequence[Item]) -> Mapping[str, str]:
    """The kinds and active dimensions that occur in each cluster, as one word."""
    held: dict[str, set[str]] = {}
    for item in items:
        kind = "misaligned" if item.misaligned else "aligned"
        held.setdefault(item.cluster_id, set()).add(f"{kind} {'+'.join(item.active)}")
    return {name: "; ".join(sorted(words)) for name, words in held.items()}


def _fraction(seed: int, *words: str) -> float:
    """A number in [0, 1) that depends on the seed and the words only."""
    text = "\x1f".join((str(seed), *words)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=6).digest(), "big") / 2**48
