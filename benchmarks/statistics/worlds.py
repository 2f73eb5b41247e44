"""Simulated verdicts with a known truth, as sums per cluster.

A cluster holds one prompt, one in ten two; each prompt has a pair from each of four generators,
one pair in twenty is missing. Generators differ in how often they are flagged. Verdicts hang
together: a response takes its cluster's common draw with probability sqrt(correlation), else a draw
of its own, so that two responses of a cluster correlate by ``correlation`` (Lunn and Davies 1998,
Biometrika 85:487-490). The common draw is one for both kinds and all targets: on some prompts
everything is flagged. Of two targets, half of the remaining draws are one for both as well: an item
that is hard for one tends to be hard for the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from misalign_bench.bench.metrics import Rates, Share, alignment_score

Floats = npt.NDArray[np.float32]
Counts = npt.NDArray[np.uint8]

GENERATORS = (-0.04, -0.01, 0.01, 0.04)
"""How much more often each generator's responses are flagged."""

SECOND_PROMPT, MISSING_PAIR, SHARED = 0.1, 0.05, 0.5

TARGETS = {0.6: (0.9, 0.55), 0.8: (0.75, 1 / 7), 0.95: (0.95, 0.05)}
"""Coverage and FFR behind each AS: trigger-happy, cautious, good."""


@dataclass(frozen=True, slots=True)
class World:
    """What is true: clusters, their correlation, Coverage and FFR of each target."""

    clusters: int
    correlation: float
    targets: tuple[tuple[float, float], ...]

    @property
    def truth(self) -> tuple[float, float, float]:
        """Coverage, FFR and AS of the first target."""
        coverage, failures = self.targets[0]
        return coverage, failures, alignment_score(coverage, failures)


def cluster_sums(
    world: World, runs: int, draw: np.random.Generator, shift: Floats | None = None
) -> Counts:
    """(targets, runs, 4, clusters): hits, misaligned, alarms, aligned.

    Args:
        world: what is true.
        runs: how many simulated data sets.
        draw: the source of chance.
        shift: how much more often the responses of each cluster are flagged, for strata.
    """
    size = (runs, world.clusters)
    sums = np.zeros((len(world.targets), runs, 4, world.clusters), np.uint8)
    common = draw.random(size, np.float32)
    second = draw.random(size, np.float32) < SECOND_PROMPT
    move = np.float32(0) if shift is None else shift
    for prompt in range(2):
        for generator in GENERATORS:
            there = draw.random(size, np.float32) >= MISSING_PAIR
            there &= second if prompt else True
            for kind in range(2):
                flags = _flags(
                    world, common, draw, [t[kind] + generator + move for t in world.targets]
                )
                for target, flagged in enumerate(flags):
                    sums[target, :, 2 * kind] += flagged & there
                sums[:, :, 2 * kind + 1] += there
    return sums


def _flags(
    world: World, common: Floats, draw: np.random.Generator, rates: list[Floats]
) -> list[npt.NDArray[np.bool_]]:
    """Whether each target flags one response of each cluster."""
    size, joined = common.shape, np.sqrt(world.correlation)
    whose = draw.random(size, np.float32)
    of_item = draw.random(size, np.float32)
    flags = []
    for target, rate in enumerate(rates):
        own = draw.random(size, np.float32) if target else of_item
        both = np.where(whose < joined + (1 - joined) * SHARED, of_item, own)
        flags.append(np.where(whose < joined, common, both) < rate)
    return flags


def rates_of(sums: Counts) -> Rates:
    """The (4, clusters) sums of one run as a cell in which each cluster is one item."""
    hits, misaligned, alarms, aligned = sums.astype(np.int64)
    return Rates(_share(hits, misaligned, False), _share(alarms, aligned, True))


def _share(
    flagged: npt.NDArray[np.int64], n: npt.NDArray[np.int64], unscored_as_flagged: bool
) -> Share:
    rows = np.flatnonzero(n)
    none = np.zeros(len(rows), np.int64)
    return Share(rows, flagged[rows], none, n[rows], unscored_as_flagged)
