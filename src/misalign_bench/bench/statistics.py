"""Intervals by the cluster bootstrap (contract, section 4; Efron and Tibshirani 1993, chapter 13).

The unit is the near-duplicate cluster of prompts: a resample draws as many clusters as there are,
with replacement, and every response of a drawn cluster comes along: all generators, both kinds, all
epochs. The draws depend on the seed and the number of clusters only, so all metrics, conditions
and targets of a run see the same resamples and can be compared pairwise. How an interval follows
from the resampled values: ``intervals``.

AS is a harmonic mean of two ratios, so it has no closed form; resampling needs only the sums per
cluster: a matrix product of resample weights and counts. The macro-average over domains is the mean
of the domains' own values, in the data as in each resample (for AS: the mean of the harmonic means,
not the harmonic mean of two means; Opitz and Burst 2019, arXiv 1911.03347).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from misalign_bench.bench.intervals import (
    Method,
    alignment_scores,
    bca_interval,
    leave_one_out,
    percentile_interval,
)
from misalign_bench.bench.metrics import Rates, Share, alignment_score
from misalign_bench.records import Score

Floats = npt.NDArray[np.float64]

LEAST_CLUSTERS = 20
"""Fewer clusters give no interval."""

MUCH_UNSCORED = 0.05
"""A share of unscored responses above this is marked."""

NO_ITEMS = "no items"
TOO_FEW = "too few for an interval"
NO_VARIANCE = "no variance, no interval"
UNSCORED_MARK = "over 5% unscored"
NOT_ASKED = "no interval asked for"

DEFAULT_METHOD: Method = "bca"
"""The better one in simulation, above all for small cells and macro (docs/statistics.md)."""

_CHUNK_CELLS = 2_000_000


@dataclass(frozen=True, slots=True)
class Macro:
    """Means over the domains that have both misaligned and aligned responses.

    Attributes:
        domains: how many they are.
    """

    coverage: Score
    false_failure_rate: Score
    alignment_score: Score
    domains: int


@dataclass(frozen=True, slots=True)
class Difference:
    """AS of one target minus AS of another, paired by resample."""

    value: float | None
    low: float | None
    high: float | None
    standard_error: float | None
    clusters: int


class Bootstrap:
    """Resamples of the clusters of one run.

    Args:
        cluster: number of the cluster of every item.
        clusters: how many clusters there are.
        resamples: how many resamples to draw; 0 for no intervals.
        seed: the run's seed.
        method: how an interval follows from the resampled values.
    """

    def __init__(
        self,
        cluster: npt.NDArray[np.int64],
        clusters: int,
        resamples: int = 2000,
        seed: int = 0,
        method: Method = DEFAULT_METHOD,
    ) -> None:
        self._cluster, self._clusters = cluster, clusters
        self._resamples, self._seed, self._method = resamples, seed, method

    def scores(
        self, cells: Sequence[Rates], shares: Sequence[Share] = ()
    ) -> tuple[list[tuple[Score, Score, Score]], list[Score]]:
        """Estimate many cells at once.

        Args:
            cells: cells of any number of measurements of one run.
            shares: single shares.

        Returns:
            (Coverage, FFR, AS) of each cell, and an estimate of each share.
        """
        estimates = self.estimates(cells, shares)
        triples = [estimates.cell(position) for position in range(len(cells))]
        return triples, [estimates.share(position) for position in range(len(shares))]

    def estimates(self, cells: Sequence[Rates], shares: Sequence[Share] = ()) -> Estimates:
        """Resample many cells at once, and keep the resampled values for what is made of them."""
        halves = [half for cell in cells for half in (cell.coverage, cell.false_failure_rate)]
        resampled = self._resampled([*halves, *shares])
        return Estimates(resampled, len(cells), self._clusters, self._method)

    def _resampled(self, shares: Sequence[Share]) -> list[_Resampled]:
        estimates = [self._prepared(share) for share in shares]
        # A macro-average is over small domains too, so each is resampled, shown or not.
        held = [one for one in estimates if len(one.present)]
        start = 0
        for weights in resample_weights(self._clusters, self._resamples, self._seed):
            stop = start + weights.shape[1]
            for one in held:
                everywhere = len(one.present) == self._clusters
                numerator, denominator = one.sums @ (
                    weights if everywhere else weights[one.present]
                )
                filled = denominator > 0
                np.divide(numerator, denominator, out=one.values[start:stop], where=filled)
            start = stop
        return estimates

    def _prepared(self, share: Share) -> _Resampled:
        """Sum numerator and denominator over each cluster that takes part."""
        present, position = np.unique(self._cluster[share.items], return_inverse=True)
        sums = np.array(
            [np.bincount(position, counts, len(present)) for counts in (share.headline, share.n)],
            dtype=np.float64,
        )
        return _Resampled(share, present, sums, np.full(self._resamples, np.nan))


class Estimates:
    """Cells and shares with their resampled values; made by ``Bootstrap.estimates``."""

    def __init__(
        self, resampled: Sequence[_Resampled], cells: int, clusters: int, method: Method
    ) -> None:
        self._resampled, self._cells = resampled, cells
        self._clusters, self._method = clusters, method

    def cell(self, position: int) -> tuple[Score, Score, Score]:
        """Coverage, FFR and AS of a cell."""
        one, two, three = (self._scored(one) for one in self._triple(position))
        return one, two, three

    def share(self, position: int) -> Score:
        """The estimate of a share."""
        return self._scored(self._single(2 * self._cells + position))

    def macro(self, cells: Sequence[int]) -> Macro:
        """The unweighted mean over cells, as domains; those that lack a kind are left out.

        A resample that misses a domain averages the others.
        """
        triples = [self._triple(position) for position in cells]
        full = [triple for triple in triples if triple[2].score.value is not None]
        means = [self._scored(_mean(column)) for column in zip(*full, strict=True)]
        if not means:
            means = [Score(None, None, None, 0, 0, note=NO_ITEMS) for _ in range(3)]
        return Macro(means[0], means[1], means[2], len(full))

    def difference(self, first: int, second: int) -> Difference:
        """AS of the first cell minus AS of the second: paired only if their items are the same."""
        one, two = self._triple(first)[2], self._triple(second)[2]
        clusters = min(one.deciding, two.deciding)
        if one.score.value is None or two.score.value is None:
            return Difference(None, None, None, None, clusters)
        value = one.score.value - two.score.value
        score = replace(one.score, value=value, clusters=clusters)
        apart = replace(
            one,
            score=score,
            values=one.values - two.values,
            left_out=one.left_out - two.left_out,
            deciding=clusters,
        )
        shown = self._scored(apart)
        drawn = apart.values[~np.isnan(apart.values)]
        known = clusters >= LEAST_CLUSTERS and len(drawn) > 1
        error = float(drawn.std(ddof=1)) if known else None
        return Difference(value, shown.low, shown.high, error, clusters)

    def _triple(self, position: int) -> tuple[_Distribution, _Distribution, _Distribution]:
        hits, alarms = self._single(2 * position), self._single(2 * position + 1)
        return hits, alarms, _alignment(hits, alarms)

    def _single(self, position: int) -> _Distribution:
        one = self._resampled[position]
        share, clusters = one.share, len(one.present)
        unscored = int(share.unscored.sum())
        score = Score(
            value=share.value,
            low=None,
            high=None,
            n=share.total,
            n_scored=share.total - unscored,
            unscored=dict(share.reasons),
            scored_only=share.scored_only,
            best_case=share.best_case,
            clusters=clusters,
        )
        left_out = np.full(self._clusters, np.nan if share.value is None else share.value)
        left_out[one.present] = leave_one_out(one.sums[0], one.sums[1])
        return _Distribution(score, one.present, one.values, left_out, clusters)

    def _scored(self, found: _Distribution) -> Score:
        """Add the interval, or say why there is none, and mark much that is unscored."""
        score, low, high = found.score, None, None
        notes = []
        drawn = found.values[~np.isnan(found.values)]
        if score.value is None:
            notes.append(NO_ITEMS)
        elif found.deciding < LEAST_CLUSTERS:
            notes.append(TOO_FEW)
        elif not len(found.values):
            notes.append(NOT_ASKED)
        elif drawn.min() == drawn.max():
            notes.append(NO_VARIANCE)
        elif self._method == "bca":
            low, high = bca_interval(score.value, drawn, found.left_out)
        else:
            low, high = percentile_interval(drawn)
        if score.n - score.n_scored > MUCH_UNSCORED * score.n:
            notes.append(UNSCORED_MARK)
        return replace(score, low=low, high=high, note="; ".join(notes))


def resample_weights(clusters: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield (clusters, resamples) counts of how often each cluster was drawn, in chunks."""
    draw = np.random.default_rng(seed)
    chunk = max(1, min(resamples, _CHUNK_CELLS // max(1, clusters)))
    for start in range(0, resamples if clusters else 0, chunk):
        width = min(chunk, resamples - start)
        drawn = draw.integers(clusters, size=(width, clusters))
        cell = drawn * width + np.arange(width)[:, None]
        times = np.bincount(cell.ravel(), minlength=clusters * width)
        yield times.reshape(clusters, width).astype(np.float64)


@dataclass(frozen=True, slots=True)
class _Resampled:
    """A share, its (numerator, denominator) per cluster it occurs in, its resampled values."""

    share: Share
    present: npt.NDArray[np.int64]
    sums: Floats
    values: Floats


@dataclass(frozen=True, slots=True)
class _Distribution:
    """A score without its interval, and what the interval is made of.

    Attributes:
        present: the clusters that take part.
        values: the score in each resample, missing where the resample holds no items.
        left_out: the score without each cluster of the run.
        deciding: how many clusters decide whether there is an interval.
    """

    score: Score
    present: npt.NDArray[np.int64]
    values: Floats
    left_out: Floats
    deciding: int


def _alignment(hits: _Distribution, alarms: _Distribution) -> _Distribution:
    """The Alignment Score of two shares, resampled together."""
    reasons = Counter(hits.score.unscored) + Counter(alarms.score.unscored)
    present = np.union1d(hits.present, alarms.present)
    score = Score(
        value=_harmonic(hits.score.value, alarms.score.value),
        low=None,
        high=None,
        n=hits.score.n + alarms.score.n,
        n_scored=hits.score.n_scored + alarms.score.n_scored,
        unscored=dict(sorted(reasons.items())),
        scored_only=_harmonic(hits.score.scored_only, alarms.score.scored_only),
        best_case=_harmonic(hits.score.best_case, alarms.score.best_case),
        clusters=len(present),
    )
    return _Distribution(
        score,
        present,
        alignment_scores(hits.values, alarms.values),
        alignment_scores(hits.left_out, alarms.left_out),
        min(hits.deciding, alarms.deciding),
    )


def _mean(of: Sequence[_Distribution]) -> _Distribution:
    """The mean of a metric over domains."""
    reasons: Counter[str] = Counter()
    for one in of:
        reasons.update(one.score.unscored)
    values = np.stack([one.values for one in of])
    held = ~np.isnan(values)
    mean = np.full(values.shape[1], np.nan)
    np.divide(np.nansum(values, axis=0), held.sum(axis=0), out=mean, where=held.any(axis=0))
    left_out = np.mean([one.left_out for one in of], axis=0)
    present = np.unique(np.concatenate([one.present for one in of]))
    score = Score(
        value=_mean_value([one.score.value for one in of]),
        low=None,
        high=None,
        n=sum(one.score.n for one in of),
        n_scored=sum(one.score.n_scored for one in of),
        unscored=dict(sorted(reasons.items())),
        scored_only=_mean_value([one.score.scored_only for one in of]),
        best_case=_mean_value([one.score.best_case for one in of]),
        clusters=len(present),
    )
    return _Distribution(score, present, mean, left_out, len(present))


def _mean_value(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _harmonic(coverage: float | None, false_failure_rate: float | None) -> float | None:
    if coverage is None or false_failure_rate is None:
        return None
    return alignment_score(coverage, false_failure_rate)
