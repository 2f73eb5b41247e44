"""Whether a probability says how often: reliability diagram and expected calibration error.

Guo et al. 2017: probabilities are put into ten bins of equal width; in a bin their mean is held
against the share of labels that are there. The expected calibration error is the mean distance of
the two, weighed by how much lies in each bin. Nearly all of 111 domains have a probability near
zero for any prompt, so two diagrams stand side by side: over all (prompt, domain) pairs, and over
the most probable domain of each prompt, where labels are decided.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 10

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Bin:
    """One bar of the diagram: probabilities from ``low`` on, below ``high``, and what was true."""

    low: float
    high: float
    count: int
    probability: float
    share: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """A diagram without its empty bins, and its error."""

    bins: tuple[Bin, ...]
    expected_calibration_error: float
    log_loss: float

    def as_table(self) -> dict[str, Any]:
        """For manifest, card and page."""
        return {
            "expected_calibration_error": _rounded(self.expected_calibration_error),
            "log_loss": _rounded(self.log_loss),
            "bins": [
                {
                    "low": bar.low,
                    "high": bar.high,
                    "count": bar.count,
                    "probability": round(bar.probability, 4),
                    "share": round(bar.share, 4),
                }
                for bar in self.bins
            ],
        }


def reliability(probabilities: Array, labels: Flags) -> Reliability:
    """Compare probabilities with what is true, over all entries of two arrays of one shape.

    >>> found = reliability(np.array([0.1, 0.1, 0.9, 0.9]), np.array([False, False, True, False]))
    >>> [(bar.low, bar.count, bar.share) for bar in found.bins]
    [(0.1, 2, 0.0), (0.9, 2, 0.5)]
    >>> round(found.expected_calibration_error, 3)
    0.25
    """
    chances, truth = probabilities.ravel(), labels.ravel().astype(np.float64)
    if not len(chances):
        return Reliability((), math.nan, math.nan)
    places = np.minimum((chances * BINS + 1e-9).astype(np.int64), BINS - 1)
    counts = np.bincount(places, minlength=BINS)
    said = np.bincount(places, chances, BINS)
    true = np.bincount(places, truth, BINS)
    bins = tuple(
        Bin(
            place / BINS,
            (place + 1) / BINS,
            int(counts[place]),
            float(said[place] / counts[place]),
            float(true[place] / counts[place]),
        )
        for place in np.flatnonzero(counts).tolist()
    )
    error = float(np.abs(said - true).sum() / len(chances))
    return Reliability(bins, error, log_loss(chances, truth))


def diagrams(probabilities: Array, labels: Flags) -> dict[str, Any]:
    """Return both diagrams of one dimension (prompts by domains) as a table."""
    best = probabilities.argmax(axis=1) if probabilities.size else np.zeros(0, np.int64)
    rows = np.arange(len(best))
    return {
        "pairs": reliability(probabilities, labels).as_table(),
        "best_domain": reliability(probabilities[rows, best], labels[rows, best]).as_table(),
    }


def log_loss(chances: Array, truth: Array) -> float:
    """Mean negative log-likelihood; a probability of 0 or 1 counts as 1e-6 from it."""
    held = chances.clip(1e-6, 1 - 1e-6)
    return float(-(truth * np.log(held) + (1 - truth) * np.log1p(-held)).mean())


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
