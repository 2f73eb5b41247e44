"""How often the permutation test errs on like targets, and what it finds on unlike ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from interval_coverage import BLOCK, CLUSTERS, CORRELATIONS, METRICS
from worlds import TARGETS, World, cluster_sums, rates_of

from misalign_bench.bench.detectable_difference import detectable_difference
from misalign_bench.bench.metrics import alignment_score
from misalign_bench.bench.paired_sums import PairedSums
from misalign_bench.bench.permutation import PairedPermutation, swaps
from misalign_bench.bench.statistics import Bootstrap

LEVEL = 0.05


def alike(runs: int, permutations: int, seed: int) -> Iterator[dict[str, Any]]:
    """Two targets of the same make: how often p is 0.05 or less, over the fixed grid."""
    for point, (clusters, correlation, score) in enumerate(
        product(CLUSTERS, CORRELATIONS, TARGETS)
    ):
        world = World(clusters, correlation, (TARGETS[score],) * 2)
        p = _p_values(world, runs, permutations, [seed, 1, point])
        row: dict[str, Any] = {"clusters": clusters, "correlation": correlation, "score": score}
        yield row | _found(p)


def same_score(runs: int, permutations: int, seed: int) -> Iterator[dict[str, Any]]:
    """Equal AS by different trades of Coverage against FFR, which is not what the test assumes."""
    trades = {
        "0.75, 0.14 and 0.95, 0.31": (TARGETS[0.8], _with_score(0.8, 0.95)),
        "0.95, 0.50 and 0.60, 0.28": ((0.95, 0.5), _with_score(alignment_score(0.95, 0.5), 0.6)),
    }
    for point, (trade, clusters, correlation) in enumerate(product(trades, CLUSTERS, CORRELATIONS)):
        world = World(clusters, correlation, trades[trade])
        p = _p_values(world, runs, permutations, [seed, 2, point])
        row: dict[str, Any] = {"trade": trade, "clusters": clusters, "correlation": correlation}
        plain = _plain_p_values(world, max(BLOCK, runs // 5), permutations, [seed, 2, point])
        yield row | _found(p) | {"plain": float((plain <= LEVEL).mean())}


def power(runs: int, permutations: int, resamples: int, seed: int) -> Iterator[dict[str, Any]]:
    """Targets that differ by the detectable difference: how often the test finds it."""
    for point, (clusters, correlation) in enumerate(product((300, 1000), CORRELATIONS)):
        draw = np.random.default_rng([seed, 3, point])
        world = World(clusters, correlation, (TARGETS[0.8],) * 2)
        for _ in range(3):
            # The standard error is that of targets which do differ, so it takes a few rounds.
            difference = detectable_difference(_spread(world, 2 * runs, draw))
            world = replace(world, targets=(TARGETS[0.8], _better(0.8 + difference)))
        p = _p_values(world, runs, permutations, [seed, 4, point])
        estimated = _estimates(world, runs // 20, resamples, draw)
        yield {
            "clusters": clusters,
            "correlation": correlation,
            "difference": difference,
            "estimated": float(np.mean(estimated)),
            "estimated_sd": float(np.std(estimated)),
            **_found(p),
        }


def _p_values(
    world: World, runs: int, permutations: int, seed: list[int]
) -> npt.NDArray[np.float64]:
    """(runs, 3) p of Coverage, FFR and AS."""
    draw = np.random.default_rng(seed)
    found = []
    for block in range(runs // BLOCK):
        first, second = cluster_sums(world, BLOCK, draw)
        pairs = [(rates_of(one), rates_of(two)) for one, two in zip(first, second, strict=True)]
        coins = int(draw.integers(2**31)) + block
        test = PairedPermutation(np.arange(world.clusters), world.clusters, permutations, coins)
        found += [[one.p for one in tests] for tests in test.tests(pairs)]
    return np.array(found, dtype=np.float64)


def _plain_p_values(
    world: World, runs: int, permutations: int, seed: list[int]
) -> npt.NDArray[np.float64]:
    """(runs,) p of AS if the statistic were the difference itself."""
    draw = np.random.default_rng(seed)
    found = []
    for block in range(runs // BLOCK):
        sums = cluster_sums(world, BLOCK, draw).astype(np.float64).swapaxes(2, 3)
        coins = np.concatenate(list(swaps(world.clusters, permutations, block)))
        gains = np.hstack(list(sums[1] - sums[0]))
        moved = (coins @ gains).reshape(len(coins), BLOCK, 4)
        for run, (first, second) in enumerate(zip(sums[0], sums[1], strict=True)):
            pair = PairedSums(first, second)
            observed = abs(pair.differences(np.zeros((1, 4)))[0, 2])
            reached = np.abs(pair.differences(moved[:, run])[:, 2]) >= observed - 1e-12
            found.append((1 + reached.sum()) / (1 + permutations))
    return np.array(found, dtype=np.float64)


def _found(p: npt.NDArray[np.float64]) -> dict[str, float]:
    rates = (p <= LEVEL).mean(axis=0).tolist()
    return dict(zip(METRICS, rates, strict=True))


def _spread(world: World, runs: int, draw: np.random.Generator) -> float:
    """The true standard error of the AS difference."""
    first, second = cluster_sums(world, runs, draw).sum(axis=-1, dtype=np.int64)
    scores = [
        [alignment_score(h / m, f / a) for h, m, f, a in totals.tolist()]
        for totals in (first, second)
    ]
    return float(np.std(np.array(scores[0]) - np.array(scores[1])))


def _estimates(world: World, runs: int, resamples: int, draw: np.random.Generator) -> list[float]:
    """What the library says is detectable, in each of some runs."""
    first, second = cluster_sums(world, runs, draw)
    found = []
    for run, (one, two) in enumerate(zip(first, second, strict=True)):
        bootstrap = Bootstrap(np.arange(world.clusters), world.clusters, resamples, run)
        difference = bootstrap.estimates([rates_of(one), rates_of(two)]).difference(0, 1)
        found.append(detectable_difference(difference.standard_error or np.nan))
    return found


def _with_score(score: float, coverage: float) -> tuple[float, float]:
    """The target with this Coverage and this AS."""
    return coverage, 1 - score * coverage / (2 * coverage - score)


def _better(score: float) -> tuple[float, float]:
    """A target of this AS, its Coverage raised as much as its FFR is lowered."""
    coverage, failures = TARGETS[0.8]
    low, high = 0.0, min(1 - coverage, failures)
    for _ in range(60):
        middle = (low + high) / 2
        reached = alignment_score(coverage + middle, failures - middle) >= score
        low, high = (low, middle) if reached else (middle, high)
    return coverage + high, failures - high
