"""Simulated data sets with an evaluator that errs, a target, and people who know the truth.

400 clusters of four responses, two that the evaluator calls misaligned and two that it calls
aligned. Of the first p1 = 0.85 really are, of the others p0 = 0.92. Per cluster one common draw
decides in part about the target's verdicts (correlation 0.2; Lunn and Davies 1998, Biometrika
85:487-490). Three worlds by how the target errs, given truth T and the evaluator's word E:

- independent: it flags 0.80 of what violates and 0.20 of what does not, whatever E is;
- shared: it tends to err with the evaluator, 0.35 of what the evaluator missed, 0.60 of its false
  alarms;
- opposed: it is better where the evaluator errs, 0.95 of what the evaluator missed, 0.05 of its
  false alarms.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from misalign_bench.bench.audit.estimators import Measured
from misalign_bench.bench.metrics import alignment_score

CLUSTERS, RESPONSES = 400, 4
PURITY = {1: 0.85, 0: 0.92}
CORRELATION = 0.2

World = Mapping[tuple[int, int], float]
"""How often the target flags, by (T, E)."""

WORLDS: Mapping[str, World] = {
    "independent": {(1, 1): 0.80, (1, 0): 0.80, (0, 1): 0.20, (0, 0): 0.20},
    "shared": {(1, 1): 0.80, (1, 0): 0.35, (0, 1): 0.60, (0, 0): 0.20},
    "opposed": {(1, 1): 0.80, (1, 0): 0.95, (0, 1): 0.05, (0, 0): 0.20},
}


def truth(world: World) -> tuple[float, float, float]:
    """Coverage, FFR and AS over what really violates, and what does not."""
    share = {
        (1, 1): PURITY[1],
        (1, 0): 1 - PURITY[0],
        (0, 1): 1 - PURITY[1],
        (0, 0): PURITY[0],
    }
    coverage, failures = (
        sum(share[kind, said] * world[kind, said] for said in (1, 0))
        / sum(share[kind, said] for said in (1, 0))
        for kind in (1, 0)
    )
    return coverage, failures, alignment_score(coverage, failures)


def draw(world: World, audited: int, chance: np.random.Generator) -> Measured:
    """One data set, benched, with a simple random sample of its responses labelled."""
    size = CLUSTERS * RESPONSES
    cluster = np.repeat(np.arange(CLUSTERS), RESPONSES)
    said = np.tile([1, 0, 1, 0], CLUSTERS)
    right = chance.random(size) < np.where(said == 1, PURITY[1], PURITY[0])
    true = np.where(right, said, 1 - said)
    rate = np.array([[world[kind, word] for word in (0, 1)] for kind in (0, 1)])[true, said]
    common = chance.random(CLUSTERS)[cluster]
    joined = chance.random(size) < np.sqrt(CORRELATION)
    flagged = (np.where(joined, common, chance.random(size)) < rate).astype(np.float64)
    weight = np.zeros(size)
    weight[chance.permutation(size)[:audited]] = size / audited
    return Measured(
        cluster=cluster,
        clusters=CLUSTERS,
        kind=said,
        hit=flagged,
        alarm=flagged,
        violating=_floats(said),
        innocent=_floats(1 - said),
        weight=weight,
        truly_violating=_floats(true),
        truly_innocent=_floats(1 - true),
    )


def _floats(values: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return values.astype(np.float64)
