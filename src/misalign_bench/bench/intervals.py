"""95% intervals from resampled values: percentile and BCa (Efron 1987, JASA 82:171-185).

The percentile interval is the middle of the resampled values. BCa moves its two ends: by the bias
``z0``, how far the value lies from the median of the resamples, and by the acceleration ``a``, how
fast the standard error changes with the value, which a jackknife over clusters estimates (Efron and
Tibshirani 1993, chapter 14). Both know nothing of the metric: what is resampled and left out is
computed by the caller, so they hold for ratios and for the harmonic mean AS alike.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Method = Literal["percentile", "bca"]

CONFIDENCE = 0.95
"""How often an interval is meant to hold the truth."""

_NORMAL = NormalDist()


def percentile_interval(resampled: Floats, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The middle of the resampled values.

    >>> [round(end, 6) for end in percentile_interval(np.arange(1001.0))]
    [25.0, 975.0]
    """
    return _quantiles(resampled, ((1 - confidence) / 2, (1 + confidence) / 2))


def bca_interval(
    value: float, resampled: Floats, left_out: Floats, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """The bias-corrected and accelerated interval.

    Args:
        value: the estimate.
        resampled: its value in each resample.
        left_out: its value without each cluster in turn.
        confidence: how often the interval is meant to hold the truth.

    Returns:
        Low and high. Where all resamples lie on one side of the value, or the acceleration is so
        great that a level has no meaning, the percentile interval.
    """
    bias = _bias(value, resampled)
    if bias is None:
        return percentile_interval(resampled, confidence)
    acceleration = _acceleration(left_out)
    levels = []
    for probability in ((1 - confidence) / 2, (1 + confidence) / 2):
        shifted = bias + _NORMAL.inv_cdf(probability)
        stretch = 1 - acceleration * shifted
        if stretch <= 0:
            return percentile_interval(resampled, confidence)
        levels.append(_NORMAL.cdf(bias + shifted / stretch))
    return _quantiles(resampled, (levels[0], levels[1]))


def leave_one_out(numerator: Floats, denominator: Floats) -> Floats:
    """A ratio of sums without each cluster in turn; unchanged where nothing would be left.

    >>> leave_one_out(np.array([1.0, 2.0, 0.0]), np.array([2.0, 2.0, 0.0]))
    array([1.  , 0.5 , 0.75])
    """
    rest = denominator.sum() - denominator
    ratio = np.full(len(rest), numerator.sum() / max(denominator.sum(), 1.0))
    np.divide(numerator.sum() - numerator, rest, out=ratio, where=rest > 0)
    return ratio


def alignment_scores(coverage: Floats, false_failure_rate: Floats) -> Floats:
    """AS of many pairs at once; 0 where both parts are 0, missing where one is missing.

    >>> alignment_scores(np.array([0.0, 0.5, np.nan]), np.array([1.0, 0.5, 0.5]))
    array([0. , 0.5, nan])
    """
    right = 1.0 - false_failure_rate
    both = coverage + right
    scores = np.zeros_like(both)
    np.divide(2.0 * coverage * right, both, out=scores, where=both != 0)
    return scores


def _bias(value: float, resampled: Floats) -> float | None:
    """How far the value lies from the median of the resamples, in normal units; ties count half."""
    below = ((resampled < value).mean() + (resampled <= value).mean()) / 2
    return _NORMAL.inv_cdf(float(below)) if 0 < below < 1 else None


def _acceleration(left_out: Floats) -> float:
    """A sixth of the skewness of the jackknife values (Efron and Tibshirani 1993, eq. 14.15)."""
    influence = left_out.mean() - left_out
    squares = float((influence**2).sum())
    return float((influence**3).sum()) / (6 * squares**1.5) if squares > 0 else 0.0


def _quantiles(resampled: Floats, levels: tuple[float, float]) -> tuple[float, float]:
    """Two quantiles by linear interpolation, without sorting more than they need."""
    low, high = np.quantile(resampled, levels).tolist()
    return low, high
