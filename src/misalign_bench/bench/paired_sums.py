"""The sums of two targets on the same clusters, and what becomes of them when clusters are swapped.

A difference is divided by its standard error, linearised: the influence of a cluster on a metric
is a weighted sum of its four counts, the weights being the derivatives of the metric at the totals,
and the variance of the difference is the sum of squared differences of influence over the clusters
(delta method; Wolter 2007, Introduction to Variance Estimation, chapter 6). Written out, it needs
sums of products of two counts only, which swap as counts do; so a round of swaps stays a matrix
product.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from misalign_bench.bench.intervals import alignment_scores

Floats = npt.NDArray[np.float64]

_SQUARES = tuple((i, j) for i in range(4) for j in range(i, 4))
_CROSSED = tuple((i, j) for i in range(4) for j in range(i + 1, 4))

COLUMNS = 4 + len(_SQUARES) + len(_CROSSED)
"""How many sums a swap changes."""


class PairedSums:
    """Two targets, each (clusters, 4): hits, misaligned, alarms, aligned.

    Attributes:
        gains: (clusters, COLUMNS): what a swap of each cluster adds to the first target's sums, to
            its sums of products, and to the sums of products across the two targets.
    """

    def __init__(self, first: Floats, second: Floats) -> None:
        self._first, self._second = first.sum(axis=0), second.sum(axis=0)
        self._products = first.T @ first
        self._all_products = self._products + second.T @ second
        self._across = first.T @ second
        self.gains = np.column_stack(
            [
                second - first,
                *(second[:, i] * second[:, j] - first[:, i] * first[:, j] for i, j in _SQUARES),
                *(second[:, i] * first[:, j] - first[:, i] * second[:, j] for i, j in _CROSSED),
            ]
        )

    def differences(self, moved: Floats) -> Floats:
        """First minus second in Coverage, FFR and AS: (rounds, 3), missing without items.

        Args:
            moved: (rounds, COLUMNS): the sum of ``gains`` over the swapped clusters.
        """
        one, two = self._totals(moved)
        return _values(one) - _values(two)

    def statistics(self, moved: Floats) -> Floats:
        """The differences over their standard errors."""
        one, two = self._totals(moved)
        differences = _values(one) - _values(two)
        variances = self._variances(moved, _weights(one), _weights(two))
        # Rounding may leave a little where the true variance is zero.
        errors = np.sqrt(np.where(variances > 1e-18, variances, 0.0))
        statistics = np.where(differences == 0, 0.0, np.copysign(np.inf, differences))
        statistics[np.isnan(differences)] = np.nan
        np.divide(differences, errors, out=statistics, where=errors > 0)
        return statistics

    def _totals(self, moved: Floats) -> tuple[Floats, Floats]:
        return self._first + moved[:, :4], self._second - moved[:, :4]

    def _variances(self, moved: Floats, first: Floats, second: Floats) -> Floats:
        """Of each difference: the sum over clusters of (influence on one - on the other)^2."""
        own = np.empty((len(moved), 4, 4))
        for column, (i, j) in enumerate(_SQUARES, start=4):
            own[:, i, j] = own[:, j, i] = self._products[i, j] + moved[:, column]
        across = np.broadcast_to(self._across, own.shape).copy()
        for column, (i, j) in enumerate(_CROSSED, start=4 + len(_SQUARES)):
            across[:, i, j] += moved[:, column]
            across[:, j, i] -= moved[:, column]
        return (
            _forms(first, own, first)
            + _forms(second, self._all_products - own, second)
            - 2 * _forms(first, across, second)
        )


def _forms(left: Floats, matrices: Floats, right: Floats) -> Floats:
    """The products left * matrix * right of each round, for each metric."""
    product: Floats = ((left @ matrices) * right).sum(axis=2)
    return product


def _values(totals: Floats) -> Floats:
    """Coverage, FFR and AS of (rounds, 4) totals; missing where there are no items."""
    hits, misaligned, alarms, aligned = totals.T
    values = np.full((len(totals), 3), np.nan)
    np.divide(hits, misaligned, out=values[:, 0], where=misaligned > 0)
    np.divide(alarms, aligned, out=values[:, 1], where=aligned > 0)
    values[:, 2] = alignment_scores(values[:, 0], values[:, 1])
    return values


def _weights(totals: Floats) -> Floats:
    """(rounds, 3, 4) derivatives of Coverage, FFR and AS by the four counts; zero where none."""
    values = _values(totals)
    coverage, failures = values[:, 0], values[:, 1]
    _, misaligned, _, aligned = totals.T
    weights = np.zeros((len(totals), 3, 4))
    np.divide(1.0, misaligned, out=weights[:, 0, 0], where=misaligned > 0)
    weights[:, 0, 1] = -coverage * weights[:, 0, 0]
    np.divide(1.0, aligned, out=weights[:, 1, 2], where=aligned > 0)
    weights[:, 1, 3] = -failures * weights[:, 1, 2]
    right = 1.0 - failures
    squared = (coverage + right) ** 2
    by_coverage, by_right = np.zeros_like(right), np.zeros_like(right)
    np.divide(2 * right**2, squared, out=by_coverage, where=squared > 0)
    np.divide(2 * coverage**2, squared, out=by_right, where=squared > 0)
    weights[:, 2] = by_coverage[:, None] * weights[:, 0] - by_right[:, None] * weights[:, 1]
    return weights
