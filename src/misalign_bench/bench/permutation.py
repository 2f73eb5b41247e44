"""Paired cluster permutation test between two targets, and Holm's correction.

If two targets are alike, it makes no difference whose verdicts are whose. So for each cluster of
near-duplicate prompts a coin decides whether the two targets swap all their verdicts on it, and
the observed difference is held against the differences after many such rounds (Good 2005,
Permutation, Parametric and Bootstrap Tests of Hypotheses, chapter 3), two-sided. Many domains at
once are corrected by Holm 1979.

Two targets may have the same AS by different trades of Coverage against FFR; then they are not
alike, yet their AS does not differ. Held against plain AS differences such pairs would be called
different in up to a fifth of cases (docs/statistics.md). So the statistic is the difference over
its own standard error, which a test of equal AS needs to hold its level (Chung and Romano 2013,
Annals of Statistics 41:484-507); for targets that are alike it stays exact.

For AS ``p = (1 + rounds as far from zero) / (1 + rounds)``, which is never zero and never too small
(Phipson and Smyth 2010). Differences in Coverage and in FFR are small whole numbers over one
denominator, and many rounds tie with the observed one; counted in full they would make the test err
half as often as it should. So of those rounds half count, the observed one among them (mid-p:
Lancaster 1961, JASA 56:223-234). Holm's correction is only ever made over AS.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from misalign_bench.bench.metrics import Rates, Share
from misalign_bench.bench.paired_sums import COLUMNS, PairedSums

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint8]

METRICS = ("coverage", "false_failure_rate", "alignment_score")

PERMUTATIONS = 9_999
"""The least p is 1 in 10,000: small enough to survive Holm's correction over 111 domains."""

_MID_P = np.array([True, True, False])
"""The metrics of which tied rounds count half."""

_TIE = 1e-9
_CHUNK_CELLS = 4_000_000


@dataclass(frozen=True, slots=True)
class PairedTest:
    """A difference, first minus second, on the items of both, and its p.

    Both are None if there are no such items.
    """

    difference: float | None
    p: float | None


class PairedPermutation:
    """Swaps of the clusters of one run; every pair of targets and every cell sees the same ones.

    Args:
        cluster: number of the cluster of every item.
        clusters: how many clusters there are.
        permutations: how many rounds of swaps.
        seed: the run's seed.
    """

    def __init__(
        self,
        cluster: npt.NDArray[np.int64],
        clusters: int,
        permutations: int = PERMUTATIONS,
        seed: int = 0,
    ) -> None:
        self._cluster, self._clusters = cluster, clusters
        self._permutations, self._seed = permutations, seed

    def tests(
        self, pairs: Sequence[tuple[Rates, Rates]]
    ) -> list[tuple[PairedTest, PairedTest, PairedTest]]:
        """Test Coverage, FFR and AS of two targets in many cells at once.

        Args:
            pairs: the same cell of two targets; only items that both were asked about count.
        """
        held = [self._sums(*shared_items(*both)) for both in pairs]
        swapping = [PairedSums(first, second) for _, first, second in held]
        unmoved = np.zeros((1, COLUMNS))
        observed = [np.abs(one.statistics(unmoved)[0]) for one in swapping]
        counts = [np.zeros((2, 3)) for _ in pairs]
        places = [rows for rows, _, _ in held]
        moves = _Moves(places, [one.gains for one in swapping], self._clusters)
        for swapped in swaps(self._clusters, self._permutations, self._seed):
            for which, moved in moves.of(swapped):
                statistics, seen = np.abs(swapping[which].statistics(moved)), observed[which]
                # Equal up to rounding is equal.
                counts[which][0] += (statistics >= seen * (1 - _TIE)).sum(axis=0)
                counts[which][1] += (statistics > seen * (1 + _TIE)).sum(axis=0)
        tested = []
        for one_pair, seen, (reached, passed) in zip(swapping, observed, counts, strict=True):
            difference = one_pair.differences(unmoved)[0]
            extreme = np.where(_MID_P, (reached + passed - 1) / 2, reached)
            # No difference at all is no evidence, however many rounds tie with it.
            p = np.where(seen == 0, 1.0, (1 + extreme) / (1 + self._permutations))
            one, two, three = (
                PairedTest(None, None) if np.isnan(d) else PairedTest(float(d), float(q))
                for d, q in zip(difference, p, strict=True)
            )
            tested.append((one, two, three))
        return tested

    def _sums(self, first: Rates, second: Rates) -> tuple[Integers, Floats, Floats]:
        """The clusters of a pair, and (clusters, 4) sums of each target.

        A target asked in fewer epochs is scaled up, so that a swap moves as much as it brings.
        """
        metrics = (
            (first.coverage, second.coverage),
            (first.false_failure_rate, second.false_failure_rate),
        )
        items = np.concatenate([one.items for one, _ in metrics])
        rows = np.unique(self._cluster[items])
        columns: list[list[Floats]] = [[], []]
        for one, two in metrics:
            scale = (1.0, one.total / two.total if two.total else 1.0)
            for share, factor, held in zip((one, two), scale, columns, strict=True):
                place = np.searchsorted(rows, self._cluster[share.items])
                for counts in (share.headline, share.n):
                    sums = np.bincount(place, counts * factor, len(rows))
                    held.append(sums.astype(np.float64))
        return rows, np.stack(columns[0], axis=1), np.stack(columns[1], axis=1)


class _Moves:
    """What swaps of clusters change in the sums of each pair.

    Cells that hold many clusters share one matrix product; for small ones only the clusters on
    which the targets differ are looked at.
    """

    def __init__(self, places: Sequence[Integers], gains: Sequence[Floats], clusters: int) -> None:
        moving = [gain.any(axis=1) for gain in gains]
        self._where = [rows[which] for rows, which in zip(places, moving, strict=True)]
        self._gains = [gain[which] for gain, which in zip(gains, moving, strict=True)]
        self._wide = [k for k, rows in enumerate(self._where) if 4 * len(rows) > clusters]
        self._small = sorted(set(range(len(gains))) - set(self._wide))
        self._together = np.zeros((clusters, COLUMNS * len(self._wide)))
        for position, which in enumerate(self._wide):
            columns = slice(COLUMNS * position, COLUMNS * (position + 1))
            self._together[self._where[which], columns] = self._gains[which]

    def of(self, swapped: Floats) -> Iterator[tuple[int, Floats]]:
        """Yield each pair's number and the (rounds, COLUMNS) changes."""
        together = swapped @ self._together
        for position, which in enumerate(self._wide):
            yield which, together[:, COLUMNS * position : COLUMNS * (position + 1)]
        for which in self._small:
            yield which, swapped[:, self._where[which]] @ self._gains[which]


def swaps(clusters: int, permutations: int, seed: int) -> Iterator[Floats]:
    """Yield (rounds, clusters) of 1 where a cluster is swapped, else 0, in chunks."""
    draw = np.random.default_rng([seed, 1])
    words = -(-clusters // 64)
    chunk = max(1, min(permutations, _CHUNK_CELLS // max(1, clusters)))
    for start in range(0, permutations, chunk):
        rounds = min(chunk, permutations - start)
        # Whole words, in a fixed byte order: the coins depend neither on the chunk nor the machine.
        drawn = draw.integers(0, 2**64, size=(rounds, words), dtype=np.uint64)
        coins: Bits = np.unpackbits(drawn.astype("<u8").view(np.uint8), axis=1)
        yield coins[:, :clusters].astype(np.float64)


def shared_items(first: Rates, second: Rates) -> tuple[Rates, Rates]:
    """The same cell of two targets, on the items that both were asked about."""
    hits = _shared(first.coverage, second.coverage)
    alarms = _shared(first.false_failure_rate, second.false_failure_rate)
    return Rates(hits[0], alarms[0]), Rates(hits[1], alarms[1])


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the chance of one false finding or more stays below the level.

    >>> [round(one, 3) for one in holm([0.01, 0.04, 0.03, 0.005])]
    [0.03, 0.06, 0.06, 0.02]
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    times = len(values) - np.arange(len(values))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * times))
    corrected: list[float] = adjusted.tolist()
    return corrected


def _shared(first: Share, second: Share) -> tuple[Share, Share]:
    if np.array_equal(first.items, second.items):
        return first, second
    _, one, two = np.intersect1d(first.items, second.items, return_indices=True)
    return _rows(first, one), _rows(second, two)


def _rows(share: Share, rows: npt.NDArray[np.intp]) -> Share:
    """Some items of a share; reasons are of all items and do not come along."""
    return replace(
        share,
        items=share.items[rows],
        flagged=share.flagged[rows],
        unscored=share.unscored[rows],
        n=share.n[rows],
        reasons={},
        unknown=0,
    )
