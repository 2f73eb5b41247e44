"""From sentence vectors to probabilities: a prototype per domain, one logistic per dimension.

A domain's prototype is its definition, counted ``DEFINITION_WEIGHT`` times, plus its labelled
prompts (prototypes of few examples: Snell et al. 2017; here the definition is a further example).
Definitions and prompts are centred first, each on their own mean, because what all definitions
share and what all prompts share says nothing about domains. Two features decide: the cosine of
prompt and prototype, standardised per domain, and its lead over the strongest other domain of the
dimension. One logistic regression per dimension turns them into a probability, so that a rare
domain gets its shape from all others (contract, section 7: a cosine is not a probability).

Everything is fitted on features that left out the prompt in question, and is deterministic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from misalign_bench.records import Dimension

DEFINITION_WEIGHT = 8.0
PENALTY = 0.01
FOLDS = 5
DECIMALS = 6
"""Probabilities are rounded, so that the last bits of a sum are no part of a result."""

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Spans = Mapping[Dimension, slice]
"""Where the domains of each dimension stand among all domains."""


@dataclass(frozen=True, slots=True)
class Logistic:
    """``p = 1 / (1 + exp(-(cosine * c + lead * l + intercept)))`` for the domains of a dimension.

    ``intercept`` has been moved so that p = 0.5 lies where the expected F1 is the highest; before,
    that point had the probability ``cut``.
    """

    cosine: float
    lead: float
    intercept: float
    cut: float


@dataclass(frozen=True, slots=True)
class Head:
    """A fitted classifier over sentence vectors."""

    centre: Array
    prototypes: Array
    mean: Array
    scale: Array
    logistics: Mapping[Dimension, Logistic]
    spans: Spans

    def probabilities(self, vectors: Array) -> Array:
        """Return one row of probabilities for each vector."""
        if not len(vectors):
            return np.zeros((0, len(self.prototypes)))
        # Vector by vector: a product of two matrices may round a row by what stands beside it.
        cosines = np.stack([self.prototypes @ (vector - self.centre) for vector in vectors])
        features = _features((cosines - self.mean) / self.scale, self.spans)
        found = np.empty_like(cosines)
        for dimension, span in self.spans.items():
            held = self.logistics[dimension]
            weights = np.array([held.cosine, held.lead])
            found[:, span] = _sigmoid(features[:, span] @ weights + held.intercept)
        rounded: Array = found.round(DECIMALS)
        return rounded


@dataclass(frozen=True, slots=True)
class Figures:
    """How a dimension's labels at p = 0.5 agree with labels that were held out."""

    auc: float
    precision: float
    recall: float
    f1: float
    labels_per_prompt: float


def fit(vectors: Array, labels: Flags, definitions: Array, spans: Spans) -> Head:
    """Fit prototypes and logistics.

    Args:
        vectors: a unit vector per labelled prompt.
        labels: prompts by domains; in each dimension some are true.
        definitions: a unit vector per domain.
        spans: the places of each dimension's domains.
    """
    centre = vectors.mean(axis=0)
    centred = vectors - centre
    sums = DEFINITION_WEIGHT * (definitions - definitions.mean(axis=0))
    sums += labels.T.astype(np.float64) @ centred
    prototypes = _unit(sums)
    cosines = centred @ prototypes.T
    for row, domain in zip(*np.nonzero(labels), strict=True):
        cosines[row, domain] = centred[row] @ _unit(sums[domain] - centred[row])
    mean = cosines.mean(axis=0)
    scale = np.maximum(cosines.std(axis=0), 1e-9)
    features = _features((cosines - mean) / scale, spans)
    logistics = {
        dimension: _logistic(features[:, span].reshape(-1, 2), labels[:, span].ravel())
        for dimension, span in spans.items()
    }
    return Head(centre, prototypes, mean, scale, logistics, spans)


def cross_validated(vectors: Array, labels: Flags, definitions: Array, spans: Spans) -> Array:
    """Return the probabilities that each prompt gets from a head fitted without its fold.

    Row r is in fold r modulo ``FOLDS``; the rows of a domain stand together, so each fold has some
    of each. A group is one prompt: none of ours is a near copy of another, which a test holds.
    """
    found = np.empty(labels.shape)
    fold = np.arange(len(vectors)) % FOLDS
    for left_out in range(FOLDS):
        others = fold != left_out
        head = fit(vectors[others], labels[others], definitions, spans)
        found[~others] = head.probabilities(vectors[~others])
    return found


def figures(probabilities: Array, labels: Flags) -> Figures:
    """Compare probabilities with the truth, over all (prompt, domain) pairs at once."""
    given = probabilities >= 0.5
    right, said, true = (int(flags.sum()) for flags in (given & labels, given, labels))
    return Figures(
        auc=_auc(probabilities[labels], probabilities[~labels]),
        precision=right / said if said else math.nan,
        recall=right / true if true else math.nan,
        f1=2 * right / (said + true) if said + true else math.nan,
        labels_per_prompt=said / len(labels),
    )


def _features(standard: Array, spans: Spans) -> Array:
    """Standardised cosines and their leads, in the last axis."""
    leads = np.empty_like(standard)
    for span in spans.values():
        block = standard[:, span]
        second, first = np.partition(block, (-2, -1), axis=1)[:, -2:].T
        rival = np.where(block == first[:, None], second[:, None], first[:, None])
        leads[:, span] = block - rival
    return np.stack([standard, leads], axis=-1)


def _logistic(features: Array, labels: Flags) -> Logistic:
    """Ridge logistic regression by Newton's method, then the move of p = 0.5 to the best F1."""
    design = np.column_stack([features, np.ones(len(features))])
    truth = labels.astype(np.float64)
    # The intercept is not shrunk; a trace of a penalty keeps the system solvable.
    penalty = np.diag([PENALTY, PENALTY, 1e-6])
    share = truth.mean()
    weights = np.array([0.0, 0.0, math.log(share / (1 - share))])

    def loss(weights: Array) -> float:
        score = design @ weights
        ridge = 0.5 * weights @ penalty @ weights
        return float((np.logaddexp(0.0, score) - truth * score).sum() + ridge)

    for _ in range(100):
        chance = _sigmoid(design @ weights)
        slope = design.T @ (chance - truth) + penalty @ weights
        curve = (design * (chance * (1 - chance))[:, None]).T @ design + penalty
        step = np.linalg.solve(curve, slope)
        size, before = 1.0, loss(weights)
        while loss(weights - size * step) > before and size > 1e-6:
            size /= 2
        weights = weights - size * step
        if np.abs(size * step).max() < 1e-9:
            break
    cut = _best_cut(_sigmoid(design @ weights))
    cosine, lead, intercept = (float(weight) for weight in weights)
    return Logistic(cosine, lead, intercept - math.log(cut / (1 - cut)), cut)


def _best_cut(chances: Array) -> float:
    """The probability from which on labels give the highest expected F1.

    Expected under the fitted probabilities themselves, which is smooth where counted hits jump.
    """
    falling = np.sort(chances)[::-1]
    count = np.arange(1, len(falling) + 1)
    expected = 2 * falling.cumsum() / (count + falling.sum())
    return float(falling[expected.argmax()])


def _auc(positive: Array, negative: Array) -> float:
    """Chance that a random positive stands above a random negative; ties count half."""
    if not len(positive) or not len(negative):
        return math.nan
    negative = np.sort(negative)
    below = np.searchsorted(negative, positive, "left")
    upto = np.searchsorted(negative, positive, "right")
    return float((below + upto).mean() / 2 / len(negative))


def _sigmoid(score: Array) -> Array:
    chance: Array = 0.5 * (1.0 + np.tanh(0.5 * score))
    return chance


def _unit(vectors: Array) -> Array:
    scaled: Array = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return scaled
