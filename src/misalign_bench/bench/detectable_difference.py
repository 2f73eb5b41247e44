"""Minimum detectable difference between two targets on the set at hand (Bloom 1995).

A difference is detectable if a two-sided test at ``level`` finds it with probability ``power``:

    difference = (z(1 - level/2) + z(power)) * standard error of the difference = 2.80 * SE

(H. S. Bloom, Minimum Detectable Effects, Evaluation Review 19:547-556, 1995; for evaluations of
models: E. Miller, Adding Error Bars to Evals, arXiv 2411.00640, 2024). The standard error is that
of the cluster bootstrap of AS(first) - AS(second) on the same items, so clusters, both kinds, all
epochs and what the two targets share are in it.
"""

from __future__ import annotations

import math
from statistics import NormalDist

POWER = 0.8
LEVEL = 0.05


def detectable_difference(
    standard_error: float, power: float = POWER, level: float = LEVEL
) -> float:
    """The smallest true difference that a test finds with this power.

    >>> round(detectable_difference(0.01), 4)
    0.028
    """
    normal = NormalDist()
    return (normal.inv_cdf(1 - level / 2) + normal.inv_cdf(power)) * standard_error


def unpaired_standard_error(first: float, second: float) -> float:
    """The standard error of a difference if the two targets had nothing in common.

    Where one target alone was measured, its own standard error stands for the other's: this bounds
    the paired one from above, as long as items hard for one target tend to be hard for the other.

    >>> round(unpaired_standard_error(0.01, 0.01), 5)
    0.01414
    """
    return math.hypot(first, second)


def clusters_needed(clusters: int, detectable: float, wanted: float) -> int:
    """How many clusters of the same make would make ``wanted`` detectable.

    >>> clusters_needed(300, 0.05, 0.025)
    1200
    """
    return math.ceil(round(clusters * (detectable / wanted) ** 2, 6))
