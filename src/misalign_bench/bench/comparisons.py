"""All pairs of targets on the same items: how far apart, with what certainty (design: Stage II).

For each pair the joint difference in Coverage, FFR and AS with its permutation p, the interval of
the AS difference and the minimum detectable difference from the same resamples, and the differences
per domain. Holm's correction runs over the domains of a pair; for the joint AS over all pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from misalign_bench.bench.detectable_difference import detectable_difference
from misalign_bench.bench.metrics import Metrics, Rates
from misalign_bench.bench.permutation import (
    METRICS,
    PERMUTATIONS,
    PairedPermutation,
    PairedTest,
    holm,
    shared_items,
)
from misalign_bench.bench.statistics import LEAST_CLUSTERS, Bootstrap, Difference

Tests = tuple[PairedTest, PairedTest, PairedTest]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two targets under one condition, always first minus second, on the items of both.

    Attributes:
        joint: differences in Coverage, FFR and AS, with p.
        alignment_score: the AS difference with its interval and standard error.
        detectable: the least AS difference that a test on these items finds in 4 of 5 cases.
        p_holm: the joint AS p, corrected over all pairs.
        domains: AS difference, p and p corrected over the domains, by domain; only domains with
            at least ``LEAST_CLUSTERS`` clusters of both kinds.
    """

    first: str
    second: str
    joint: Tests
    alignment_score: Difference
    detectable: float | None
    p_holm: float | None = None
    domains: Mapping[str, tuple[PairedTest, float]] = field(default_factory=dict)

    def as_table(self) -> dict[str, Any]:
        """The form in ``results.json``."""
        table: dict[str, Any] = {"first": self.first, "second": self.second}
        for name, test in zip(METRICS, self.joint, strict=True):
            table[name] = {"difference": test.difference, "p": test.p}
        apart = self.alignment_score
        table["alignment_score"] |= {
            "low": apart.low,
            "high": apart.high,
            "standard_error": apart.standard_error,
            "p_holm": self.p_holm,
            "detectable_difference": self.detectable,
            "clusters": apart.clusters,
        }
        table["domain"] = {
            name: {"difference": test.difference, "p": test.p, "p_holm": corrected}
            for name, (test, corrected) in self.domains.items()
        }
        return table


def comparisons(
    cluster: npt.NDArray[np.int64],
    clusters: int,
    measured: Mapping[str, Metrics],
    *,
    resamples: int = 2000,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> list[Comparison]:
    """Compare every two targets.

    Args:
        cluster: number of the cluster of every item, as in the ``ItemTable``.
        clusters: how many clusters there are.
        measured: the counts of each target under the same condition, by name.
        resamples: of the bootstrap; 0 for no intervals.
        permutations: rounds of swaps.
        seed: the run's seed.

    Returns:
        A comparison for each pair, in the order of ``measured``.
    """
    pairs = list(combinations(measured, 2))
    cells = [_cells(cluster, measured[one], measured[two]) for one, two in pairs]
    joint = [held["joint"] for held in cells]
    bootstrap = Bootstrap(cluster, clusters, resamples, seed)
    estimates = bootstrap.estimates([rates for both in joint for rates in both])
    test = PairedPermutation(cluster, clusters, permutations, seed)
    tested = iter(test.tests([both for held in cells for both in held.values()]))
    found = []
    for position, ((one, two), held) in enumerate(zip(pairs, cells, strict=True)):
        by_cell = {name: next(tested) for name in held}
        apart = estimates.difference(2 * position, 2 * position + 1)
        error = apart.standard_error
        found.append(
            Comparison(
                first=one,
                second=two,
                joint=by_cell.pop("joint"),
                alignment_score=apart,
                detectable=None if error is None else detectable_difference(error),
                domains=_corrected({name: tests[2] for name, tests in by_cell.items()}),
            )
        )
    return _corrected_over_pairs(found)


def _cells(
    cluster: npt.NDArray[np.int64], first: Metrics, second: Metrics
) -> dict[str, tuple[Rates, Rates]]:
    """The joint cell and the domains of two targets, on the items of both."""
    cells = {"joint": shared_items(first.rates["joint",], second.rates["joint",])}
    for place, rates in first.rates.items():
        if place[0] == "domain" and place in second.rates:
            both = shared_items(rates, second.rates[place])
            shares = (both[0].coverage, both[0].false_failure_rate)
            if all(len(np.unique(cluster[one.items])) >= LEAST_CLUSTERS for one in shares):
                cells[place[1]] = both
    return cells


def _corrected(tests: Mapping[str, PairedTest]) -> dict[str, tuple[PairedTest, float]]:
    known = {name: test for name, test in tests.items() if test.p is not None}
    corrected = holm([test.p for test in known.values() if test.p is not None])
    return {name: (test, p) for (name, test), p in zip(known.items(), corrected, strict=True)}


def _corrected_over_pairs(found: list[Comparison]) -> list[Comparison]:
    known = [row for row, one in enumerate(found) if one.joint[2].p is not None]
    corrected = holm([p for one in found if (p := one.joint[2].p) is not None])
    by_row = dict(zip(known, corrected, strict=True))
    return [replace(one, p_holm=by_row.get(row)) for row, one in enumerate(found)]
