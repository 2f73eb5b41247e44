"""Intervals of whatever is computed from sums per cluster (contract, section 4).

The unit is the near-duplicate cluster. A resample draws clusters with replacement; what people said
about the responses of a drawn cluster comes along, so the audit is resampled with the rest. The
resamples are those of a bench run with the same seed and clusters (``bench.statistics``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from misalign_bench.bench.intervals import Method, bca_interval, percentile_interval
from misalign_bench.bench.statistics import (
    DEFAULT_METHOD,
    LEAST_CLUSTERS,
    NO_ITEMS,
    NO_VARIANCE,
    NOT_ASKED,
    TOO_FEW,
    resample_weights,
)

Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""From (sums, resamples) to (estimates, resamples); what is not defined is not a number."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95% interval, or why there is none."""

    value: float | None
    low: float | None
    high: float | None
    clusters: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Resampling:
    """How intervals are made."""

    resamples: int = 2000
    seed: int = 0
    method: Method = DEFAULT_METHOD


def estimate(
    sums: Floats, statistic: Statistic, deciding: int | list[int], how: Resampling
) -> list[Estimate]:
    """Estimate with intervals.

    Args:
        sums: (sums, clusters).
        statistic: what is estimated from the sums over all clusters.
        deciding: how many clusters the estimates, or each of them, rest on; under 20 there is no
            interval.
        how: number, seed and kind.
    """
    whole = sums.sum(axis=1, keepdims=True)
    values = statistic(whole)[:, 0]
    if isinstance(deciding, int):
        deciding = [deciding] * len(values)
    drawn = [
        statistic(sums @ weights)
        for weights in resample_weights(sums.shape[1], how.resamples, how.seed)
    ]
    resampled = np.concatenate(drawn, axis=1) if drawn else np.empty((len(values), 0))
    left_out = statistic(whole - sums)
    return [
        _estimate(float(value), row, rest, clusters, how.method)
        for value, row, rest, clusters in zip(values, resampled, left_out, deciding, strict=True)
    ]


def cluster_sums(columns: list[Floats], cluster: npt.NDArray[np.int64], clusters: int) -> Floats:
    """Each column added up over each cluster."""
    return np.array([np.bincount(cluster, column, clusters) for column in columns], np.float64)


def share(numerator: Floats, denominator: Floats) -> Floats:
    """A ratio, not a number where its denominator is not positive."""
    found = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    np.divide(numerator, denominator, out=found, where=denominator > 0)
    return found


def _estimate(
    value: float, resampled: Floats, left_out: Floats, clusters: int, method: Method
) -> Estimate:
    held = resampled[~np.isnan(resampled)]
    if np.isnan(value):
        return Estimate(None, None, None, clusters, NO_ITEMS)
    if clusters < LEAST_CLUSTERS:
        return Estimate(value, None, None, clusters, TOO_FEW)
    if not len(held):
        return Estimate(value, None, None, clusters, NOT_ASKED)
    if held.min() == held.max():
        return Estimate(value, None, None, clusters, NO_VARIANCE)
    if method == "bca":
        low, high = bca_interval(value, held, np.where(np.isnan(left_out), value, left_out))
    else:
        low, high = percentile_interval(held)
    return Estimate(value, low, high, clusters)
