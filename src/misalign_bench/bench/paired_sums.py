"""The sums of two targets on the same clusters, and what becomes of them when clusters are swapped.

The difference in AS is divided by its standard error, linearised: the influence of a cluster on AS
is a weighted sum of its four counts, the weights being the derivatives of AS at the totals, and the
variance of the difference is the sum of squared differences of influence over the clusters (delta
method; Wolter 2007, Introduction to Variance Estimation, chapter 6). Written out, it needs sums of
products of two counts only, which swap as counts do; so a round of swaps stays a matrix product.
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
        """The differences, that of AS over its standard error."""
        one, two = self._totals(moved)
        statistics = _values(one) - _values(two)
        variance = self._variance(moved, _weights(one), _weights(two))
        # Rounding may leave a little where the true variance is zero.
        error = np.sqrt(np.where(variance > 1e-18, variance, 0.0))
        difference = statistics[:, 2].copy()
        statistics[:, 2] = np.where(difference == 0, 0.0, np.copysign(np.inf, difference))
        np.divide(difference, error, out=statistics[:, 2], where=error > 0)
        return statistics

    def _totals(self, moved: Floats) -> tuple[Floats, Floats]:
        return self._first + moved[:, :4], self._second - moved[:, :4]

    def _variance(self, moved: Floats, first: Floats, second: Floats) -> Floats:
        """Of the AS difference: the sum over clusters of (influence on one - on the other)^2."""
        own = np.empty((len(moved), 4, 4))
        for column, (i, j) in enumerate(_SQUARES, start=4):
            own[:, i, j] = own[:, j, i] = self._products[i, j] + moved[:, column]
        across = np.broadcast_to(self._across, own.shape).copy()
        for column, (i, j) in enumerate(_CROSSED, start=4 + len(_SQUARES)):
            across[:, i, j] += moved[:, column]
            across[:, j, i] -= moved[:, column]
        return (
            _form(first, own, first)
            + _form(second, self._all_products - own, second)
            - 2 * _form(first, across, second)
        )


def _form(left: Floats, matrices: Floats, right: Floats) -> Floats:
    """The product left * matrix * right, round by round."""
    product: Floats = ((left[:, None, :] @ matrices)[:, 0] * right).sum(axis=1)
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
    """(rounds, 4) derivatives of AS by the four counts; zero where AS has none."""
    values = _values(totals)
    coverage, failures = values[:, 0], values[:, 1]
    right = 1.0 - failures
    squared = (coverage + right) ** 2
    by_coverage, by_right = np.zeros_like(right), np.zeros_like(right)
    np.divide(2 * right**2, squared, out=by_coverage, where=squared > 0)
    np.divide(2 * coverage**2, squared, out=by_right, where=squared > 0)
    weights = np.zeros_like(totals)
    _, misaligned, _, aligned = totals.T
    np.divide(by_coverage, misaligned, out=weights[:, 0], where=misaligned > 0)
    weights[:, 1] = -coverage * weights[:, 0]
    np.divide(-by_right, aligned, out=weights[:, 2], where=aligned > 0)
    weights[:, 3] = -failures * weights[:, 2]
    return weights
