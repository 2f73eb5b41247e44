"""Multinomial logistic regression of several dimensions at once, over dense and sparse features.

Each dimension is a group of classes, "none" first, then its domains: a prompt with m labels of a
dimension counts as 1/m of each, one without as "none". The loss is the cross-entropy of the groups
plus a quadratic penalty. It is made small by Adam (Kingma and Ba 2015) over shuffled batches with a
rate that falls to zero, so that the last steps average the noise of the batches; order and start
follow from the seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from misalign_bench.build.classify.terms import Floats, Rows

_FIRST, _SECOND, _TINY = 0.9, 0.999, 1e-8


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a head is fitted; chosen once on a validation part of the published prompts.

    Attributes:
        least_texts: a term counts if so many texts hold it.
        landmarks: how many prompts nearness is measured to.
        dense_scale: how much dense features weigh beside the terms, which have length 1.
        penalty: weight of half the squared weights, beside the mean loss of a prompt.
        smoothing: share of a prompt's weight that is spread evenly over the classes.
        epochs: how often each prompt is seen.
        batch: prompts a step.
        rate: Adam's first step size.
    """

    least_texts: int = 10
    landmarks: int = 2000
    dense_scale: float = 2.0
    penalty: float = 3e-4
    smoothing: float = 0.0
    epochs: int = 12
    batch: int = 256
    rate: float = 0.02


@dataclass(frozen=True, slots=True)
class Weights:
    """A linear map to the classes of all groups."""

    bias: Floats
    dense: Floats
    sparse: Floats


def fit(
    vectors: Floats,
    rows: Rows,
    shares: Floats,
    groups: Sequence[slice],
    recipe: Recipe,
    seed: int,
) -> Weights:
    """Fit weights.

    Args:
        vectors: the dense features of each prompt.
        rows: its terms.
        shares: prompts by classes; in each group a row sums to one.
        groups: the places of each group's classes.
        recipe: how.
        seed: of the order of prompts.
    """
    count, classes = shares.shape
    wide = vectors.shape[1]
    weights = np.zeros((1 + wide + rows.width, classes), dtype=np.float32)
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    shares = _smooth(shares, groups, recipe.smoothing)
    random = np.random.default_rng(seed)
    steps = recipe.epochs * -(-count // recipe.batch)
    step = 0
    for _ in range(recipe.epochs):
        order = random.permutation(count)
        for start in range(0, count, recipe.batch):
            batch = order[start : start + recipe.batch]
            block = np.empty((len(batch), len(weights)), dtype=np.float32)
            block[:, 0] = 1.0
            block[:, 1 : 1 + wide] = recipe.dense_scale * vectors[batch]
            block[:, 1 + wide :] = rows.dense(batch)
            wrong = (softmax(block @ weights, groups) - shares[batch]) / len(batch)
            slope = (block.T @ wrong).astype(np.float32, copy=False)
            slope[1:] += recipe.penalty * weights[1:]
            step += 1
            rate = recipe.rate * (1.0 - (step - 1) / steps)
            _adam(weights, first, second, slope, step, rate)
    weights[1 : 1 + wide] *= recipe.dense_scale
    return Weights(weights[0], weights[1 : 1 + wide], weights[1 + wide :])


def softmax(scores: Floats, groups: Sequence[slice]) -> Floats:
    """Return probabilities that sum to one in each group of each row."""
    found = np.empty_like(scores)
    for group in groups:
        held = np.exp(scores[:, group] - scores[:, group].max(axis=1, keepdims=True))
        found[:, group] = held / held.sum(axis=1, keepdims=True)
    return found


def _smooth(shares: Floats, groups: Sequence[slice], smoothing: float) -> Floats:
    if not smoothing:
        return shares
    smooth: Floats = shares * np.float32(1.0 - smoothing)
    for group in groups:
        smooth[:, group] += smoothing / (group.stop - group.start)
    return smooth


def _adam(
    weights: Floats, first: Floats, second: Floats, slope: Floats, step: int, rate: float
) -> None:
    """One step, in place."""
    first *= _FIRST
    first += (1 - _FIRST) * slope
    second *= _SECOND
    np.square(slope, out=slope)
    second += (1 - _SECOND) * slope
    size = rate * np.sqrt(1 - _SECOND**step) / (1 - _FIRST**step)
    weights -= np.float32(size) * first / (np.sqrt(second) + np.float32(_TINY))
