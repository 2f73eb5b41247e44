"""How two sets of labels over the same prompts agree: precision, recall, F1, kappa, confusion.

The first set is the reference: precision is the share of the second's labels that the reference has
too, recall the share of the reference's labels that the second found. Figures of a dimension are
micro-averaged over its labels; ``None`` is the absence of a label, never one (contract, section 2).

Kappa (Cohen 1960) of a domain is over labelled or not; of a dimension it takes each set of labels
that a prompt has there as one category, "none" included, so that with one label or none it is the
ordinary kappa. Intervals are bootstrapped over near-duplicate clusters (contract, section 4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from misalign_bench.records import DIMENSIONS, Dimension
from misalign_bench.taxonomy.loader import taxonomy

NONE = "none"
"""What a confusion shows where one side has no label."""

LEAST_CLUSTERS = 20
"""Fewer clusters give no interval."""

Labels = frozenset[str]
"""The ``dimension/name`` labels of a prompt."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Agreement on one dimension or domain; None where nothing was to be divided by.

    Attributes:
        both: labels that both sets have.
        reference: labels of the reference.
        other: labels of the other set.
        kappa: chance-corrected agreement.
        low: lower end of the interval of F1, None without one.
        high: its upper end.
    """

    both: int
    reference: int
    other: int
    kappa: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def precision(self) -> float | None:
        """Share of the other's labels that the reference has too."""
        return self.both / self.other if self.other else None

    @property
    def recall(self) -> float | None:
        """Share of the reference's labels that the other has too."""
        return self.both / self.reference if self.reference else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall; the same in both directions."""
        total = self.reference + self.other
        return 2 * self.both / total if total else None

    def as_table(self) -> dict[str, Any]:
        """For JSON."""
        interval = {} if self.low is None else {"f1_low": self.low, "f1_high": self.high}
        return {
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            **interval,
            "kappa": self.kappa,
            "reference": self.reference,
            "other": self.other,
            "both": self.both,
        }


@dataclass(frozen=True, slots=True)
class Agreement:
    """The comparison of two sets.

    Attributes:
        prompts: how many both sets hold.
        dimensions: figures of each dimension.
        same: share of prompts whose labels of a dimension are exactly the same.
        domains: figures of each domain, by ``dimension/name``.
        confusion: of each dimension, how often a label of the reference stood where the other had
            another; ``none`` stands for no label.
    """

    prompts: int
    dimensions: Mapping[Dimension, Figures]
    same: Mapping[Dimension, float | None]
    domains: Mapping[str, Figures]
    confusion: Mapping[Dimension, Counter[tuple[str, str]]]


def agreement(
    reference: Sequence[Labels],
    other: Sequence[Labels],
    clusters: Sequence[str] | None = None,
    resamples: int = 0,
    seed: int = 0,
) -> Agreement:
    """Compare the labels of prompts, which stand in the same order in both.

    Args:
        reference: the labels of each prompt that the others are held against.
        other: the labels that are compared with them.
        clusters: the near-duplicate cluster of each prompt, for intervals.
        resamples: how many bootstrap resamples; 0 for no intervals.
        seed: of the resamples.

    >>> one = [frozenset({"culture/Dance"}), frozenset()]
    >>> found = agreement(one, [frozenset({"culture/Dance"}), frozenset({"culture/Opera"})])
    >>> found.dimensions["culture"].precision, found.dimensions["culture"].recall
    (0.5, 1.0)
    """
    dimensions: dict[Dimension, Figures] = {}
    same: dict[Dimension, float | None] = {}
    confusion: dict[Dimension, Counter[tuple[str, str]]] = {}
    for dimension in DIMENSIONS:
        ours = [_of(labels, dimension) for labels in reference]
        theirs = [_of(labels, dimension) for labels in other]
        low = high = None
        if clusters is not None and resamples:
            low, high = _interval(ours, theirs, clusters, resamples, seed)
        dimensions[dimension] = _figures(ours, theirs, _kappa(ours, theirs), low, high)
        equal = sum(one == two for one, two in zip(ours, theirs, strict=True))
        same[dimension] = equal / len(ours) if ours else None
        confusion[dimension] = _confusion(ours, theirs)
    return Agreement(
        len(reference), dimensions, same, _by_domain(reference, other), dict(confusion)
    )


def _of(labels: Labels, dimension: Dimension) -> Labels:
    return frozenset(label for label in labels if label.startswith(f"{dimension}/"))


def _figures(
    ours: Sequence[Labels],
    theirs: Sequence[Labels],
    kappa: float | None,
    low: float | None,
    high: float | None,
) -> Figures:
    both = sum(len(one & two) for one, two in zip(ours, theirs, strict=True))
    return Figures(both, sum(map(len, ours)), sum(map(len, theirs)), kappa, low, high)


def _by_domain(reference: Sequence[Labels], other: Sequence[Labels]) -> dict[str, Figures]:
    ours = Counter(label for labels in reference for label in labels)
    theirs = Counter(label for labels in other for label in labels)
    shared = Counter(
        label for one, two in zip(reference, other, strict=True) for label in one & two
    )
    found = {}
    for domain in taxonomy().domains:
        key = domain.key
        both, one, two, count = shared[key], ours[key], theirs[key], len(reference)
        agreed = count - one - two + 2 * both
        by_chance = one * two + (count - one) * (count - two)
        found[key] = Figures(both, one, two, _corrected(agreed, by_chance, count))
    return found


def _kappa(ours: Sequence[Labels], theirs: Sequence[Labels]) -> float | None:
    agreed = sum(one == two for one, two in zip(ours, theirs, strict=True))
    first, second = Counter(ours), Counter(theirs)
    by_chance = sum(often * second[labels] for labels, often in first.items())
    return _corrected(agreed, by_chance, len(ours))


def _corrected(agreed: int, by_chance: int, count: int) -> float | None:
    """Kappa from counts; None where chance alone explains everything."""
    if not count or by_chance == count * count:
        return None
    expected = by_chance / count**2
    return (agreed / count - expected) / (1 - expected)


def _confusion(ours: Sequence[Labels], theirs: Sequence[Labels]) -> Counter[tuple[str, str]]:
    """Count shared labels with themselves, and each of the others with each it stood against."""
    found: Counter[tuple[str, str]] = Counter()
    for one, two in zip(ours, theirs, strict=True):
        found.update((label, label) for label in one & two)
        lost, new = sorted(one - two) or [NONE], sorted(two - one) or [NONE]
        if one != two:
            found.update((left, right) for left in lost for right in new)
        elif not one:
            found[NONE, NONE] += 1
    return found


def _interval(
    ours: Sequence[Labels],
    theirs: Sequence[Labels],
    clusters: Sequence[str],
    resamples: int,
    seed: int,
) -> tuple[float | None, float | None]:
    """The middle 95% of F1 over resampled clusters; None under 20 clusters."""
    import numpy as np

    names = {name: place for place, name in enumerate(dict.fromkeys(clusters))}
    if len(names) < LEAST_CLUSTERS:
        return None, None
    place = np.array([names[name] for name in clusters])
    pairs = list(zip(ours, theirs, strict=True))
    both = np.bincount(place, [len(one & two) for one, two in pairs], len(names))
    total = np.bincount(place, [len(one) + len(two) for one, two in pairs], len(names))
    draw = np.random.default_rng(seed)
    values = []
    for _ in range(resamples):
        times = np.bincount(draw.integers(len(names), size=len(names)), minlength=len(names))
        if (labels := times @ total) > 0:
            values.append(2 * (times @ both) / labels)
    if not values:
        return None, None
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)
