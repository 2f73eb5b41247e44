"""BCa, macro-averages and differences, against plain loops and against scipy where it is there."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pytest

from misalign_bench.bench.detectable_difference import detectable_difference
from misalign_bench.bench.intervals import (
    alignment_scores,
    bca_interval,
    leave_one_out,
    percentile_interval,
)
from misalign_bench.bench.metrics import Rates, Share, alignment_score
from misalign_bench.bench.statistics import Bootstrap

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

CLUSTERS = 60


def counts(seed: int, clusters: int = CLUSTERS, hit: float = 0.9, alarm: float = 0.2) -> Integers:
    """(4, clusters): hits, misaligned, alarms, aligned of clusters of unequal size."""
    draw = np.random.default_rng(seed)
    n, m = draw.integers(1, 7, (2, clusters))
    return np.array([draw.binomial(n, hit), n, draw.binomial(m, alarm), m])


def cell(sums: Integers) -> Rates:
    """Each cluster as one item that was asked about several times."""
    hits, misaligned, alarms, aligned = sums
    return Rates(share(hits, misaligned), share(alarms, aligned))


def share(flagged: Integers, n: Integers) -> Share:
    rows = np.flatnonzero(n)
    return Share(rows, flagged[rows], np.zeros_like(rows), n[rows], unscored_as_flagged=False)


def score(hits: float, misaligned: float, alarms: float, aligned: float) -> float:
    return alignment_score(hits / misaligned, alarms / aligned)


def bca_by_the_book(value: float, resampled: list[float], left_out: list[float]) -> list[float]:
    """Efron and Tibshirani 1993, equations 14.9 to 14.15, with plain floats."""
    normal = NormalDist()
    below = sum((one < value) + 0.5 * (one == value) for one in resampled) / len(resampled)
    z0 = normal.inv_cdf(below)
    mean = math.fsum(left_out) / len(left_out)
    cubes = math.fsum((mean - one) ** 3 for one in left_out)
    squares = math.fsum((mean - one) ** 2 for one in left_out)
    a = cubes / (6 * squares**1.5)
    ends = []
    for z in (normal.inv_cdf(0.025), normal.inv_cdf(0.975)):
        level = normal.cdf(z0 + (z0 + z) / (1 - a * (z0 + z)))
        ordered = sorted(resampled)
        place = level * (len(ordered) - 1)
        lower = ordered[math.floor(place)]
        ends.append(lower + (ordered[math.ceil(place)] - lower) * (place - math.floor(place)))
    return ends


@pytest.mark.parametrize("seed", range(4))
def test_the_bca_interval_of_as_is_that_of_the_book(seed: int) -> None:
    sums = counts(seed)
    value = score(*sums.sum(axis=1).tolist())
    resampled = [
        score(*sums[:, drawn].sum(axis=1).tolist())
        for drawn in np.random.default_rng(5).integers(CLUSTERS, size=(400, CLUSTERS))
    ]
    left_out = [
        score(*np.delete(sums, one, axis=1).sum(axis=1).tolist()) for one in range(CLUSTERS)
    ]
    [(_, _, found)], _ = Bootstrap(np.arange(CLUSTERS), CLUSTERS, 400, 5, "bca").scores(
        [cell(sums)]
    )
    expected = bca_by_the_book(value, resampled, left_out)
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_scipy_finds_the_same_bca_interval_from_the_same_resamples(seed: int) -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    sums = counts(seed).astype(np.float64)

    def statistic(hits: Floats, n: Floats, alarms: Floats, m: Floats, axis: int = -1) -> Floats:
        rates = hits.sum(axis) / n.sum(axis), alarms.sum(axis) / m.sum(axis)
        return alignment_scores(np.atleast_1d(rates[0]), np.atleast_1d(rates[1])).squeeze()

    theirs = stats.bootstrap(
        tuple(sums), statistic, paired=True, n_resamples=999, method="BCa", random_state=seed
    )
    left_out = [leave_one_out(sums[0], sums[1]), leave_one_out(sums[2], sums[3])]
    value = score(*sums.sum(axis=1).tolist())
    ours = bca_interval(value, theirs.bootstrap_distribution, alignment_scores(*left_out))
    np.testing.assert_allclose(ours, theirs.confidence_interval, atol=1e-12)


def test_scipy_draws_much_the_same_interval_by_itself() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    sums = counts(9)
    theirs = stats.bootstrap(
        (sums[0], sums[1]),
        lambda hits, n, axis=-1: hits.sum(axis) / n.sum(axis),
        paired=True,
        n_resamples=9999,
        random_state=1,
    ).confidence_interval
    bootstrap = Bootstrap(np.arange(CLUSTERS), CLUSTERS, 9999, 0, "bca")
    [(coverage, _, _)], _ = bootstrap.scores([cell(sums)])
    width = theirs.high - theirs.low
    assert (coverage.low, coverage.high) == pytest.approx(tuple(theirs), abs=0.05 * width)


def test_leaving_a_cluster_out_is_counting_without_it() -> None:
    hits, n, _, _ = counts(3)
    expected = [np.delete(hits, one).sum() / np.delete(n, one).sum() for one in range(CLUSTERS)]
    found = leave_one_out(hits.astype(np.float64), n.astype(np.float64))
    np.testing.assert_allclose(found, expected, atol=1e-15)


def test_a_symmetric_distribution_has_the_same_interval_by_both_methods() -> None:
    resampled = np.linspace(-1, 1, 2001)
    left_out = np.concatenate([np.full(30, -0.01), np.full(30, 0.01)])
    np.testing.assert_allclose(
        bca_interval(0.0, resampled, left_out), percentile_interval(resampled), atol=1e-12
    )


def test_resamples_on_one_side_of_the_value_fall_back_to_the_percentile_interval() -> None:
    resampled = np.linspace(0.1, 0.2, 500)
    assert bca_interval(0.9, resampled, np.arange(50.0)) == percentile_interval(resampled)


def three_domains() -> tuple[list[Rates], list[Integers]]:
    """Overlapping thirds of the clusters, the last with a handful only."""
    sums = counts(4, hit=0.7)
    held = [np.arange(CLUSTERS) < 40, np.arange(CLUSTERS) >= 20, np.arange(CLUSTERS) < 6]
    parts = [sums * one for one in held]
    return [cell(part) for part in parts], parts


def test_the_macro_average_is_the_mean_of_the_domains_in_the_data_and_in_each_resample() -> None:
    cells, parts = three_domains()
    bootstrap = Bootstrap(np.arange(CLUSTERS), CLUSTERS, 300, 2, "percentile")
    macro = bootstrap.estimates(cells).macro([0, 1, 2])
    expected = np.mean([score(*part.sum(axis=1).tolist()) for part in parts])
    values = []
    for drawn in np.random.default_rng(2).integers(CLUSTERS, size=(300, CLUSTERS)):
        totals = [part[:, drawn].sum(axis=1).tolist() for part in parts]
        values.append(np.mean([score(*one) for one in totals if one[1] and one[3]]))
    assert macro.domains == 3
    assert macro.alignment_score.value == pytest.approx(expected, abs=1e-12)
    ends = (macro.alignment_score.low, macro.alignment_score.high)
    assert ends == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])), abs=1e-12)
    assert macro.alignment_score.clusters == CLUSTERS


def test_a_domain_without_one_of_the_kinds_is_not_averaged() -> None:
    cells, _ = three_domains()
    empty = replace(cells[0].coverage, items=np.zeros(0, np.int64))
    none = np.zeros(0, np.int64)
    empty = replace(empty, flagged=none, unscored=none, n=none)
    estimates = Bootstrap(np.arange(CLUSTERS), CLUSTERS, 100).estimates(
        [*cells, Rates(empty, cells[0].false_failure_rate)]
    )
    assert estimates.macro(range(4)) == estimates.macro(range(3))


def test_a_macro_average_over_nothing_says_no_items() -> None:
    macro = Bootstrap(np.arange(CLUSTERS), CLUSTERS, 100).estimates([]).macro([])
    assert (macro.domains, macro.alignment_score.value) == (0, None)
    assert macro.alignment_score.note == "no items"


def test_the_difference_of_two_targets_is_resampled_in_pairs() -> None:
    one, two = counts(6), counts(7, alarm=0.3)
    two[[1, 3]] = one[[1, 3]]
    two[[0, 2]] = np.minimum(two[[0, 2]], two[[1, 3]])
    bootstrap = Bootstrap(np.arange(CLUSTERS), CLUSTERS, 300, 8, "percentile")
    found = bootstrap.estimates([cell(one), cell(two)]).difference(0, 1)
    values = []
    for drawn in np.random.default_rng(8).integers(CLUSTERS, size=(300, CLUSTERS)):
        totals = [sums[:, drawn].sum(axis=1).tolist() for sums in (one, two)]
        values.append(score(*totals[0]) - score(*totals[1]))
    assert found.standard_error == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))


def test_a_target_does_not_differ_from_itself() -> None:
    same = cell(counts(6))
    found = Bootstrap(np.arange(CLUSTERS), CLUSTERS, 100).estimates([same, same]).difference(0, 1)
    assert (found.value, found.low, found.standard_error) == (0.0, None, 0.0)


def test_few_clusters_give_no_standard_error() -> None:
    few = cell(counts(6, clusters=12))
    found = Bootstrap(np.arange(12), 12, 100).estimates([few, few]).difference(0, 1)
    assert found.standard_error is None


def test_a_test_finds_the_detectable_difference_in_four_of_five_cases() -> None:
    """A normal estimate at that distance from zero, tested at 5% on both sides."""
    normal = NormalDist(mu=detectable_difference(0.013), sigma=0.013)
    critical = NormalDist().inv_cdf(0.975) * 0.013
    assert 1 - normal.cdf(critical) == pytest.approx(0.8, abs=1e-9)


def test_intervals_cover_at_300_clusters() -> None:
    """150 simulated sets; the whole grid is in benchmarks/statistics."""
    draw = np.random.default_rng(13)
    covered, runs, clusters = 0, 150, 300
    truth = alignment_score(0.75, 0.2)
    for run in range(runs):
        n = draw.integers(2, 7, clusters)
        hits = draw.binomial(n, draw.beta(2.25, 0.75, clusters))
        alarms = draw.binomial(n, draw.beta(0.6, 2.4, clusters))
        bootstrap = Bootstrap(np.arange(clusters), clusters, 400, run, "bca")
        [(_, _, found)], _ = bootstrap.scores([cell(np.array([hits, n, alarms, n]))])
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= truth <= found.high
    # Three standard errors of 150 runs are 0.053.
    assert 0.89 <= covered / runs <= 0.995
