"""Adaptive mode: how often the interval at the stop holds the truth, and what it saves."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from interval_coverage import BLOCK, CORRELATIONS, resampled_rates
from worlds import TARGETS, Counts, World, cluster_sums

from misalign_bench.bench.adaptive import cluster_order, decide
from misalign_bench.bench.intervals import alignment_scores, bca_interval, leave_one_out
from misalign_bench.bench.metrics import alignment_score
from misalign_bench.records import DIMENSIONS, Item, Score

CLUSTERS = 4_780
"""The size of the paper's test split: 19,121 pairs by four generators."""

STRATA = ((0.3, 0.01), (0.5, 0.0), (0.2, -0.015))
"""Share of prompts with 1, 2 and 3 active dimensions, and how much more they are flagged."""

WIDTHS = (0.02, 0.01)


def stopping(runs: int, resamples: int, seed: int) -> Iterator[dict[str, Any]]:
    """One row per correlation, AS and wanted half-width."""
    for point, (correlation, score) in enumerate(product(CORRELATIONS, TARGETS)):
        world = World(CLUSTERS, correlation, (TARGETS[score],))
        draw = np.random.default_rng([seed, 5, point])
        shift = _shift(seed)
        blocks = [cluster_sums(world, BLOCK, draw, shift)[0] for _ in range(runs // BLOCK)]
        sums = np.concatenate(blocks)
        for until in WIDTHS:
            ends, taken, looks = _stops(sums, until, resamples, seed + point)
            middle = _scores(sums, taken)
            truth = world.truth[2]
            yield {
                "correlation": correlation,
                "score": score,
                "until": until,
                "covered": float(((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean()),
                "half_width": float((ends[:, 1] - ends[:, 0]).mean() / 2),
                "reached": float(((ends[:, 1] - ends[:, 0]) / 2 <= until).mean()),
                "bias": float((middle - truth).mean()),
                "clusters": float(taken.mean()),
                "ratio": float(taken.mean() / CLUSTERS),
                "looks": float(looks.mean()),
                "ideal": _ideal(sums, until),
            }


def _stops(
    sums: Counts, until: float, resamples: int, seed: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Interval, clusters and looks at the stop of each run."""
    runs = len(sums)
    ends = np.zeros((runs, 2))
    looks = np.zeros(runs, np.int64)
    first = decide([], until, 0, CLUSTERS).more
    taken = np.full(runs, first)
    going = np.ones(runs, bool)
    while going.any():
        size = int(taken[going].min())
        here = np.flatnonzero(going & (taken == size))
        for some in np.array_split(here, -(-len(here) // BLOCK)):
            drawn = resampled_rates(sums[some, :, :size], resamples, seed + size + int(some[0]))
            for run, values in zip(some.tolist(), drawn[2], strict=True):
                hits, misaligned, alarms, aligned = sums[run, :, :size].astype(np.float64)
                left = [leave_one_out(hits, misaligned), leave_one_out(alarms, aligned)]
                [value] = _scores(sums[[run]], taken[[run]])
                ends[run] = bca_interval(value, values, alignment_scores(*left))
                looks[run] += 1
                shown = Score(None, ends[run, 0], ends[run, 1], 0, 0)
                decision = decide([shown], until, size, CLUSTERS)
                taken[run] += decision.more
                going[run] = not decision.stop
    return ends, taken, looks


def _shift(seed: int) -> npt.NDArray[np.float32]:
    """The stratum's shift of each cluster, in the order in which the library takes them."""
    number = np.repeat(range(len(STRATA)), [round(share * CLUSTERS) for share, _ in STRATA])
    items = []
    for cluster, stratum in enumerate(number.tolist()):
        for misaligned in (False, True):
            name = f"c{cluster}"
            active = DIMENSIONS[: stratum + 1]
            items.append(Item(name, name, name, "", "", misaligned, active))
    order = [int(name[1:]) for name in cluster_order(items, seed)]
    return np.array([STRATA[number[cluster]][1] for cluster in order], np.float32)


def _scores(sums: Counts, taken: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    scores = []
    for run, size in enumerate(taken.tolist()):
        hits, misaligned, alarms, aligned = sums[run, :, :size].sum(axis=1, dtype=np.int64).tolist()
        scores.append(alignment_score(hits / misaligned, alarms / aligned))
    return np.array(scores)


def _ideal(sums: Counts, until: float) -> float:
    """The share of clusters that would do if the variance were known beforehand."""
    spread = np.std(_scores(sums, np.full(len(sums), CLUSTERS)))
    return float(min(1.0, (1.96 * spread / until) ** 2))
