"""How often the intervals hold the truth: micro over the fixed grid, macro over domains."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from worlds import TARGETS, Counts, World, cluster_sums, rates_of

from misalign_bench.bench.intervals import (
    alignment_scores,
    bca_interval,
    leave_one_out,
    percentile_interval,
)
from misalign_bench.bench.metrics import alignment_score
from misalign_bench.bench.statistics import Bootstrap, resample_weights

Floats = npt.NDArray[np.float64]

CLUSTERS = (100, 300, 1000)
CORRELATIONS = (0.0, 0.3)
METRICS = ("coverage", "false_failure_rate", "alignment_score")
BLOCK = 100
"""Data sets that see the same resamples; each has data of its own."""


def micro(runs: int, resamples: int, seed: int) -> Iterator[dict[str, Any]]:
    """One row per point of the grid."""
    for point, (clusters, correlation, score) in enumerate(
        product(CLUSTERS, CORRELATIONS, TARGETS)
    ):
        world = World(clusters, correlation, (TARGETS[score],))
        draw = np.random.default_rng([seed, point])
        ends = {"percentile": [], "bca": []}  # type: dict[str, list[Floats]]
        for block in range(runs // BLOCK):
            sums = cluster_sums(world, BLOCK, draw)[0]
            for method, found in _ends(sums, resamples, seed + 1000 * point + block).items():
                ends[method].append(found)
        row: dict[str, Any] = {"clusters": clusters, "correlation": correlation, "score": score}
        for method, found_ends in ends.items():
            row[method] = _summary(np.concatenate(found_ends), world.truth)
        yield row


def macro(runs: int, resamples: int, seed: int) -> Iterator[dict[str, Any]]:
    """AS averaged over 40 domains of unequal size and difficulty, by the whole library."""
    domains = 40
    for clusters in (1000, 5000):
        draw = np.random.default_rng([seed, clusters])
        chance = 1 / (np.arange(domains) + 3.0)
        chance /= chance.sum()
        shift = np.linspace(-0.15, 0.05, domains)
        truth = float(np.mean([alignment_score(0.85 + one, 0.2 + one) for one in shift]))
        values, held = [], {"percentile": 0, "bca": 0}
        for run in range(runs):
            domain = draw.choice(domains, clusters, p=chance)
            world = World(clusters, 0.3, ((0.85, 0.2),))
            sums = cluster_sums(world, 1, draw, shift[domain].astype(np.float32))[0, 0]
            cells = [rates_of(sums * (domain == one)) for one in range(domains)]
            for method in ("percentile", "bca"):
                bootstrap = Bootstrap(np.arange(clusters), clusters, resamples, run, method)
                found = bootstrap.estimates(cells).macro(range(domains)).alignment_score
                ends = np.array([found.value, found.low, found.high], np.float64)
                held[method] += bool(ends[1] <= truth <= ends[2])
            values.append(float(ends[0]))
        yield {
            "clusters": clusters,
            "domains": domains,
            "smallest": round(clusters * chance.min()),
            "truth": truth,
            "mean": float(np.mean(values)),
            "runs": runs,
            "percentile": held["percentile"] / runs,
            "bca": held["bca"] / runs,
        }


def resampled_rates(sums: Counts, resamples: int, seed: int) -> Floats:
    """(3, runs, resamples): Coverage, FFR and AS of (runs, 4, clusters) in each resample."""
    runs, _, clusters = sums.shape
    flat = sums.reshape(runs * 4, clusters).astype(np.float32)
    # Counts below 2**24 are exact in single precision.
    totals = (
        np.concatenate(
            [flat @ w.astype(np.float32) for w in resample_weights(clusters, resamples, seed)],
            axis=1,
        )
        .reshape(runs, 4, resamples)
        .astype(np.float64)
    )
    coverage, failures = totals[:, 0] / totals[:, 1], totals[:, 2] / totals[:, 3]
    return np.stack([coverage, failures, alignment_scores(coverage, failures)])


def _ends(sums: Counts, resamples: int, seed: int) -> dict[str, Floats]:
    """(runs, 3, 2) ends of the intervals by method."""
    drawn = resampled_rates(sums, resamples, seed)
    runs = len(sums)
    ends = {name: np.empty((runs, 3, 2)) for name in ("percentile", "bca")}
    for run in range(runs):
        hits, misaligned, alarms, aligned = sums[run].astype(np.float64)
        left = [leave_one_out(hits, misaligned), leave_one_out(alarms, aligned)]
        left.append(alignment_scores(left[0], left[1]))
        value = [hits.sum() / misaligned.sum(), alarms.sum() / aligned.sum()]
        value.append(alignment_score(value[0], value[1]))
        for metric in range(3):
            values = drawn[metric, run]
            ends["percentile"][run, metric] = percentile_interval(values)
            ends["bca"][run, metric] = bca_interval(value[metric], values, left[metric])
    return ends


def _summary(ends: Floats, truth: tuple[float, ...]) -> dict[str, dict[str, float]]:
    low, high = ends[..., 0], ends[..., 1]
    return {
        name: {
            "covered": float(((low[:, m] <= truth[m]) & (truth[m] <= high[:, m])).mean()),
            "below": float((high[:, m] < truth[m]).mean()),
            "above": float((low[:, m] > truth[m]).mean()),
            "half_width": float((high[:, m] - low[:, m]).mean() / 2),
        }
        for m, name in enumerate(METRICS)
    }
