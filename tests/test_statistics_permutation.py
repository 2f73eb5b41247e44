"""The paired cluster permutation test and Holm's correction, against enumeration by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from misalign_bench.bench.metrics import Rates, Share, alignment_score
from misalign_bench.bench.paired_sums import PairedSums
from misalign_bench.bench.permutation import PairedPermutation, holm, shared_items, swaps

Integers = npt.NDArray[np.int64]


def cell(hits: Integers, misaligned: Integers, alarms: Integers, aligned: Integers) -> Rates:
    """Each cluster as one misaligned and one aligned item, asked about several times."""
    rows = np.arange(len(hits))
    none = np.zeros_like(rows)
    return Rates(
        Share(rows, hits, none, misaligned, False), Share(rows, alarms, none, aligned, True)
    )


def targets(clusters: int, seed: int, better: float = 0.0) -> tuple[Integers, Integers]:
    """Two targets on the same items, each (4, clusters)."""
    draw = np.random.default_rng(seed)
    n, m = draw.integers(1, 5, (2, clusters))
    first = np.array([draw.binomial(n, 0.6 + better), n, draw.binomial(m, 0.4 - better), m])
    second = np.array([draw.binomial(n, 0.6), n, draw.binomial(m, 0.4), m])
    return first, second


def values(sums: Integers) -> npt.NDArray[np.float64]:
    hits, misaligned, alarms, aligned = sums.sum(axis=1).tolist()
    coverage, failures = hits / misaligned, alarms / aligned
    return np.array([coverage, failures, alignment_score(coverage, failures)])


def influence(sums: Integers) -> npt.NDArray[np.float64]:
    """(3, clusters): of each cluster on the three metrics, the derivatives by small steps."""
    totals, step = sums.sum(axis=1).astype(np.float64), 1e-5
    slopes = []
    for count in range(4):
        ends = []
        for sign in (1, -1):
            hits, misaligned, alarms, aligned = totals + sign * step * (np.arange(4) == count)
            coverage, failures = hits / misaligned, alarms / aligned
            ends.append(np.array([coverage, failures, alignment_score(coverage, failures)]))
        slopes.append((ends[0] - ends[1]) / (2 * step))
    return np.asarray(np.array(slopes).T @ sums)


def statistics(first: Integers, second: Integers) -> npt.NDArray[np.float64]:
    apart = values(first) - values(second)
    errors = np.sqrt(((influence(first) - influence(second)) ** 2).sum(axis=1))
    return np.abs(np.divide(apart, errors, out=np.zeros(3), where=errors > 1e-9))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_p_is_the_share_of_all_swaps_that_reach_the_observed_difference(seed: int) -> None:
    first, second = targets(9, seed, better=0.2)
    observed, reached, passed = statistics(first, second), np.zeros(3), np.zeros(3)
    for coins in product([False, True], repeat=9):
        one, two = np.where(coins, second, first), np.where(coins, first, second)
        reached += statistics(one, two) >= observed * (1 - 1e-6)
        passed += statistics(one, two) > observed * (1 + 1e-6)
    # Half of the ties count for Coverage and FFR, all for AS.
    exact = np.where([True, True, False], (reached + passed) / 2, reached) / 2**9
    test = PairedPermutation(np.arange(9), 9, 40_000, seed=seed)
    [found] = test.tests([(cell(*first), cell(*second))])
    # Four standard errors of 40,000 rounds at p = 0.5 are 0.01.
    assert [one.p for one in found] == pytest.approx(exact.tolist(), abs=0.01)
    differences = values(first) - values(second)
    assert [one.difference for one in found] == pytest.approx(differences.tolist(), abs=1e-12)


def test_the_statistic_after_a_swap_is_that_of_the_swapped_data() -> None:
    first, second = targets(40, 5)
    pair = PairedSums(first.T.astype(np.float64), second.T.astype(np.float64))
    coins = np.random.default_rng(0).integers(0, 2, (20, 40)).astype(bool)
    found = np.abs(pair.statistics(coins.astype(np.float64) @ pair.gains))
    for row, flipped in enumerate(coins):
        one, two = np.where(flipped, second, first), np.where(flipped, first, second)
        np.testing.assert_allclose(found[row], statistics(one, two), rtol=1e-5, atol=1e-9)


def test_equal_targets_have_p_one() -> None:
    first, _ = targets(50, 1)
    [found] = PairedPermutation(np.arange(50), 50, 200).tests([(cell(*first), cell(*first))])
    assert [(one.difference, one.p) for one in found] == [(0.0, 1.0)] * 3


def test_a_great_difference_has_the_least_p_there_is_and_never_zero() -> None:
    first, second = targets(200, 1, better=0.35)
    [found] = PairedPermutation(np.arange(200), 200, 999).tests([(cell(*first), cell(*second))])
    assert [one.p for one in found] == [0.0005, 0.0005, 0.001]


def test_the_order_of_the_targets_turns_the_difference_and_keeps_p() -> None:
    first, second = targets(60, 4, better=0.05)
    test = PairedPermutation(np.arange(60), 60, 500)
    one, two = test.tests([(cell(*first), cell(*second)), (cell(*second), cell(*first))])
    assert [a.p for a in one] == [b.p for b in two]
    turned = [-(b.difference or 0.0) for b in two]
    assert [a.difference for a in one] == pytest.approx(turned)


def test_a_small_cell_has_the_same_p_beside_large_ones_and_alone() -> None:
    """One of few clusters is computed apart from those that hold most clusters."""
    first, second = targets(100, 8, better=0.1)
    rows = np.arange(20, 40)
    small = tuple(_at(cell(*sums[:, rows]), rows) for sums in (first, second))
    test = PairedPermutation(np.arange(100), 100, 300, seed=3)
    [alone] = test.tests([(small[0], small[1])])
    beside = test.tests([(cell(*first), cell(*second)), (small[0], small[1])])
    assert beside[1] == alone


def test_what_moves_together_counts_once() -> None:
    """Ten copies of each item in its cluster are no more evidence than one."""
    first, second = targets(40, 2, better=0.1)
    test = PairedPermutation(np.arange(40), 40, 300)
    [once] = test.tests([(cell(*first), cell(*second))])
    [often] = test.tests([(cell(*(10 * first)), cell(*(10 * second)))])
    assert [one.p for one in once] == [one.p for one in often]


def test_a_target_asked_once_is_compared_with_one_asked_three_times() -> None:
    first, second = targets(40, 2)
    three = np.array([3, 3, 3, 3])[:, None] * first
    test = PairedPermutation(np.arange(40), 40, 300)
    assert test.tests([(cell(*three), cell(*second))])[0][0].p == pytest.approx(
        test.tests([(cell(*first), cell(*second))])[0][0].p or 0
    )


def test_only_items_of_both_targets_are_compared() -> None:
    first, second = targets(30, 3)
    part = _at(cell(*second[:, 10:]), np.arange(10, 30))
    one, two = shared_items(cell(*first), part)
    assert one.coverage.items.tolist() == list(range(10, 30))
    assert one.coverage.flagged.tolist() == first[0, 10:].tolist()
    assert two.coverage.flagged.tolist() == part.coverage.flagged.tolist()


def test_without_items_in_common_there_is_no_p() -> None:
    first, second = targets(30, 3)
    one, two = _at(cell(*first), np.arange(30)), _at(cell(*second), np.arange(30, 60))
    [found] = PairedPermutation(np.arange(60), 60, 100).tests([(one, two)])
    assert [(test.difference, test.p) for test in found] == [(None, None)] * 3


def test_the_coins_do_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(swaps(70, 50, seed=6)))
    monkeypatch.setattr("misalign_bench.bench.permutation._CHUNK_CELLS", 200)
    pieces = list(swaps(70, 50, seed=6))
    assert len(pieces) > 1
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_coins_are_fair_and_differ_by_seed() -> None:
    one, two = (np.concatenate(list(swaps(100, 400, seed))) for seed in (0, 1))
    assert set(np.unique(one)) == {0.0, 1.0}
    assert abs(one.mean() - 0.5) < 0.015
    assert (one != two).any()


def test_equal_as_by_different_trades_is_not_called_a_difference() -> None:
    """Trigger-happy against cautious; against plain differences of AS one in six would be."""
    draw = np.random.default_rng(2)
    clusters, runs = 100, 200
    n = np.full(clusters, 4)
    pairs = [
        tuple(
            cell(draw.binomial(n, coverage), n, draw.binomial(n, failures), n)
            for coverage, failures in ((0.95, 0.5), (0.6, 1 - 0.72128))
        )
        for _ in range(runs)
    ]
    test = PairedPermutation(np.arange(clusters), clusters, 199)
    found = sum((one[2].p or 0) <= 0.05 for one in test.tests([(a, b) for a, b in pairs]))
    assert 0.01 <= found / runs <= 0.1


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_the_step_down_of_its_definition(p: list[float]) -> None:
    """Each p times the number of hypotheses not yet rejected, never under the one before it."""
    expected, before = [0.0] * len(p), 0.0
    for rank, row in enumerate(sorted(range(len(p)), key=lambda one: p[one])):
        before = max(before, min(1.0, (len(p) - rank) * p[row]))
        expected[row] = before
    assert holm(p) == pytest.approx(expected)


def test_statsmodels_corrects_alike() -> None:
    multitest = pytest.importorskip(
        "statsmodels.stats.multitest", reason="statsmodels is not installed"
    )
    p = np.random.default_rng(0).random(40) ** 3
    np.testing.assert_allclose(holm(p.tolist()), multitest.multipletests(p, method="holm")[1])


def _at(rates: Rates, rows: npt.NDArray[np.int64]) -> Rates:
    return Rates(replace(rates.coverage, items=rows), replace(rates.false_failure_rate, items=rows))
