"""From scores to probabilities that keep their word: temperature or isotonic, per dimension.

``Temperature`` divides the log-odds by a number and moves them (Guo et al. 2017; with the shift
it is Platt 1999): two parameters, which also mend a model that leans to yes. ``Isotonic`` is any
rising curve (Zadrozny and Elkan 2002), found by pooling neighbours that stand the wrong way round.
Both keep the order of probabilities. Cross-validation decides which of them a dimension gets: the
temperature unless the curve is better by more than a standard error (contract, section 4).

Whatever is fitted here must be fitted on probabilities of prompts that the classifier had not seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from misalign_bench.build.classify.reliability import Array, Flags
from misalign_bench.errors import UserError

STEPS = 10_000
"""Isotonic curves are fitted on probabilities rounded to one in so many."""

_LEAST = 1e-6


@dataclass(frozen=True, slots=True)
class Temperature:
    """``logit(p') = logit(p) / temperature + shift``."""

    temperature: float = 1.0
    shift: float = 0.0

    def __call__(self, probabilities: Array) -> Array:
        """Return the probabilities on the new scale."""
        scaled: Array = _chance(_logit(probabilities) / self.temperature + self.shift)
        return scaled

    def as_table(self) -> dict[str, Any]:
        """What ``read`` takes."""
        return {"kind": "temperature", "temperature": self.temperature, "shift": self.shift}


@dataclass(frozen=True, slots=True)
class Isotonic:
    """A rising curve through points, straight between them and level outside."""

    given: tuple[float, ...]
    found: tuple[float, ...]

    def __call__(self, probabilities: Array) -> Array:
        """Return the probabilities on the new scale."""
        scaled: Array = np.interp(probabilities, self.given, self.found)
        return scaled

    def as_table(self) -> dict[str, Any]:
        """What ``read`` takes."""
        return {"kind": "isotonic", "given": list(self.given), "found": list(self.found)}


Scaling = Temperature | Isotonic


def choose(
    probabilities: Array, labels: Flags, fold: npt.NDArray[np.int64]
) -> tuple[Scaling, dict[str, float]]:
    """Fit both forms, keep the one that cross-validation prefers.

    Args:
        probabilities: prompts by domains of one dimension, each out of its classifier's fold.
        labels: what is true, of the same shape.
        fold: the fold of each prompt; near-duplicates share one.

    Returns:
        The scaling, and the cross-validated log-loss of both forms with the standard error of
        their difference.
    """
    losses: dict[str, Array] = {}
    for name, fit in (("temperature", fit_temperature), ("isotonic", fit_isotonic)):
        scaled = np.empty_like(probabilities)
        for held in np.unique(fold):
            out = fold == held
            scaled[out] = fit(probabilities[~out], labels[~out])(probabilities[out])
        chance = np.where(labels, scaled, 1 - scaled).clip(_LEAST, 1.0)
        losses[name] = -np.log(chance).sum(axis=1)
    gain = losses["temperature"] - losses["isotonic"]
    error = float(gain.std() / np.sqrt(len(gain)))
    better = float(gain.mean()) > error
    scaling = (fit_isotonic if better else fit_temperature)(probabilities, labels)
    figures = {name: round(float(loss.mean()), 4) for name, loss in losses.items()}
    return scaling, {**figures, "standard_error": round(error, 4)}


def fit_temperature(probabilities: Array, labels: Flags) -> Temperature:
    """Fit two parameters by Newton's method on the log-odds."""
    score, truth = _logit(probabilities).ravel(), labels.ravel().astype(np.float64)
    design = np.column_stack([score, np.ones_like(score)])
    # A trace of a penalty towards "no change" keeps the system solvable on few or clean labels.
    home, penalty = np.array([1.0, 0.0]), np.diag([1e-2, 1e-2])
    weights = home.copy()

    def loss(weights: Array) -> float:
        line = design @ weights
        near = 0.5 * (weights - home) @ penalty @ (weights - home)
        return float((np.logaddexp(0.0, line) - truth * line).sum() + near)

    for _ in range(50):
        chance = _chance(design @ weights)
        slope = design.T @ (chance - truth) + penalty @ (weights - home)
        curve = (design * (chance * (1 - chance))[:, None]).T @ design + penalty
        step, size, before = np.linalg.solve(curve, slope), 1.0, loss(weights)
        while loss(weights - size * step) > before and size > 1e-6:
            size /= 2
        weights = weights - size * step
        if np.abs(size * step).max() < 1e-9:
            break
    rise = max(float(weights[0]), 1e-3)
    return Temperature(round(1 / rise, 6), round(float(weights[1]), 6))


def fit_isotonic(probabilities: Array, labels: Flags) -> Isotonic:
    """Pool neighbours that stand the wrong way round, until every block is above the last."""
    level = np.rint(probabilities.ravel() * STEPS).astype(np.int64)
    counts = np.bincount(level, minlength=STEPS + 1)
    true = np.bincount(level, labels.ravel().astype(np.float64), STEPS + 1)
    blocks: list[tuple[float, float, float]] = []
    for place in np.flatnonzero(counts).tolist():
        block = (float(counts[place]), place / STEPS * float(counts[place]), float(true[place]))
        while blocks and blocks[-1][2] / blocks[-1][0] >= block[2] / block[0]:
            last = blocks.pop()
            block = (last[0] + block[0], last[1] + block[1], last[2] + block[2])
        blocks.append(block)
    return Isotonic(
        tuple(round(said / count, 6) for count, said, _ in blocks),
        tuple(round(held / count, 6) for count, _, held in blocks),
    )


def read(table: Mapping[str, Any]) -> Scaling:
    """Read what ``as_table`` wrote.

    Raises:
        UserError: it is no scaling.
    """
    try:
        if table["kind"] == "temperature":
            held = Temperature(float(table["temperature"]), float(table["shift"]))
            if held.temperature > 0 and math.isfinite(held.shift):
                return held
        if table["kind"] == "isotonic":
            curve = Isotonic(tuple(map(float, table["given"])), tuple(map(float, table["found"])))
            if len(curve.given) == len(curve.found) > 0 and _rises(curve):
                return curve
    except (KeyError, TypeError, ValueError, OverflowError):
        pass
    raise UserError("holds a scaling that cannot be read")


def _rises(curve: Isotonic) -> bool:
    return all(
        values[0] >= 0 and values[-1] <= 1 and all(low <= high for low, high in pairwise(values))
        for values in (curve.given, curve.found)
    )


def _logit(probabilities: Array) -> Array:
    held = probabilities.clip(_LEAST, 1 - _LEAST)
    odds: Array = np.log(held) - np.log1p(-held)
    return odds


def _chance(score: Array) -> Array:
    chance: Array = 0.5 * (1.0 + np.tanh(0.5 * score))
    return chance
