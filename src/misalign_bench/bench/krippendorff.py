"""Krippendorff's alpha for nominal ratings, with missing ratings allowed.

Written from the formula of K. Krippendorff (2011), "Computing Krippendorff's
Alpha-Reliability" (University of Pennsylvania, Departmental Papers), part C: with the
coincidences ``o(c, k)`` of the pairable ratings and their margins ``n(c)``,

    alpha = 1 - (n - 1) * sum of o(c, k) over c != k / sum of n(c) n(k) over c != k

A unit with ``m`` ratings adds ``1 / (m - 1)`` to ``o(c, k)`` for each ordered pair of its
ratings, so a unit with fewer than two ratings adds nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence


def alpha(ratings: Sequence[Sequence[Hashable | None]]) -> float | None:
    """Return the agreement of several raters beyond chance: 1 is perfect, 0 is chance.

    Args:
        ratings: units, each a sequence of ratings; ``None`` is a rating that is missing. The
            order of the ratings in a unit has no meaning, and their number may differ.

    Returns:
        alpha; ``None`` where it is not defined: no unit has two ratings, or every pairable
        rating is the same (then nothing could have disagreed by chance).

    >>> units = [(0, 1), (1, 1), (0, 1), (0, 0), (0, 0), (0, 1), (0, 0), (0, 0), (1, 0), (0, 0)]
    >>> round(alpha(units), 3)
    0.095
    """
    margins: Counter[Hashable] = Counter()
    observed = 0.0
    for unit in ratings:
        counts = Counter(rating for rating in unit if rating is not None)
        given = sum(counts.values())
        if given < 2:
            continue
        margins.update(counts)
        observed += _unlike(counts) / (given - 1)
    expected = _unlike(margins)
    if expected == 0:
        return None
    return 1.0 - (sum(margins.values()) - 1) * observed / expected


def _unlike(counts: Counter[Hashable]) -> int:
    """Return the number of ordered pairs of ratings that differ."""
    return sum(counts.values()) ** 2 - sum(count * count for count in counts.values())
