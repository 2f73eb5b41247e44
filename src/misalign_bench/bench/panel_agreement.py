"""How far the judges of a panel agree: Krippendorff's alpha with an interval (``respond``).

A unit is a response, a rating a judge's flag in one dimension, or its joint answer; what a judge
left unscored, and a dimension that it does not cover, is missing. Below 0.667 Krippendorff (2004,
*Content Analysis*, section 11.4.2) draws no conclusion from such ratings, from 0.8 on firm ones.
The interval is the middle of alpha over resampled clusters of prompts, as for every other number
(``statistics``); alpha needs no more of a cluster than its sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from misalign_bench.bench.intervals import percentile_interval
from misalign_bench.bench.krippendorff import alpha
from misalign_bench.bench.responses import Response
from misalign_bench.bench.statistics import LEAST_CLUSTERS, resample_weights
from misalign_bench.judge.panel import Panel, answered, covers
from misalign_bench.records import Answer, Dimension, Verdict

Floats = npt.NDArray[np.float64]
Ratings = tuple[bool | None, ...]


@dataclass(frozen=True, slots=True)
class Agreement:
    """alpha, with its interval where there are clusters enough.

    Attributes:
        alpha: None where it is not defined: all ratings the same, or none to compare.
        units: responses with at least two ratings.
        same: share of them on which all ratings are the same.
    """

    alpha: float | None
    low: float | None
    high: float | None
    units: int
    same: float | None


def agreement(
    panel: Panel,
    responses: Sequence[Response],
    cluster: npt.NDArray[np.int64],
    clusters: int,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Agreement]:
    """The agreement of a panel on these responses, ``joint`` and by dimension.

    Args:
        panel: with at least two judges; of one there is none to agree with.
        responses: of one target, or of several.
        cluster: number of the cluster of every prompt.
        clusters: how many clusters there are.
        resamples: of the bootstrap; 0 for no intervals.
        seed: the run's seed.
    """
    if len(panel.judges) < 2:
        return {}
    judged = [one for one in responses if one.said]
    of_unit = cluster[np.array([one.prompt for one in judged], dtype=np.int64)]
    found = {}
    for name in ("joint", *panel.dimensions):
        ratings = [_ratings(panel, one, name) for one in judged]
        sums = _sums(ratings, of_unit, clusters)
        found[name] = _agreement(ratings, sums, resamples, seed)
    return found


def _ratings(panel: Panel, response: Response, name: str) -> Ratings:
    """What each judge says of a response in a dimension, or jointly."""
    return tuple(
        _joint(panel, verdict)
        if name == "joint"
        else _flag(verdict, name)  # type: ignore[arg-type]
        if set(_asked(panel, name)) <= set(covers(judge))
        else None
        for judge, verdict in zip(panel.judges, response.said, strict=True)
    )


def _asked(panel: Panel, name: str) -> tuple[str, ...]:
    return panel.dimensions if name == "joint" else (name,)


def _joint(panel: Panel, verdict: Verdict) -> bool | None:
    held = Verdict({one: answered(verdict, one) for one in panel.dimensions}).joint
    return held if isinstance(held, bool) else None


def _flag(verdict: Verdict, dimension: Dimension) -> bool | None:
    answer = answered(verdict, dimension)
    return answer.flagged if isinstance(answer, Answer) else None


def _sums(ratings: Sequence[Ratings], of_unit: npt.NDArray[np.int64], clusters: int) -> Floats:
    """(3, clusters): unlike ordered pairs over (ratings - 1), flags and passes of each cluster."""
    sums = np.zeros((3, clusters))
    for unit, place in zip(ratings, of_unit.tolist(), strict=True):
        flags, passes = unit.count(True), unit.count(False)
        if flags + passes > 1:
            sums[:, place] += (2 * flags * passes / (flags + passes - 1), flags, passes)
    return sums


def _agreement(ratings: Sequence[Ratings], sums: Floats, resamples: int, seed: int) -> Agreement:
    pairable = [unit for unit in ratings if len(unit) - unit.count(None) > 1]
    same = sum(not (True in unit and False in unit) for unit in pairable)
    value = alpha(ratings)
    low = high = None
    enough = int((sums[1:].sum(axis=0) > 0).sum()) >= LEAST_CLUSTERS
    if value is not None and enough and resamples:
        drawn = np.concatenate(
            [
                _alphas(sums @ weights)
                for weights in resample_weights(sums.shape[1], resamples, seed)
            ]
        )
        known = drawn[~np.isnan(drawn)]
        if len(known) and known.min() < known.max():
            low, high = percentile_interval(known)
    return Agreement(value, low, high, len(pairable), same / len(pairable) if pairable else None)


def _alphas(sums: Floats) -> Floats:
    """Alpha of many sets of sums; missing where all ratings are the same."""
    unlike, flags, passes = sums
    expected = 2 * flags * passes
    values = np.full(sums.shape[1], np.nan)
    observed = (flags + passes - 1) * unlike
    np.divide(observed, expected, out=values, where=expected > 0)
    return 1.0 - values
