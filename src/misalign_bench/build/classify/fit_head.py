"""Fit a head on labelled prompts: weights, calibration, thresholds and honest figures.

Prompts are put into folds by their near-duplicate cluster, so that no twin helps (contract, section
4). For each fold a head is fitted on the others; what it says about the fold is out of fold. On
these probabilities the calibration is fitted, the thresholds are chosen, and all figures of the
manifest are measured. The head that is kept is then fitted on everything.

One threshold a dimension is chosen for all labels at once ("delta"), and one for the most probable
label alone ("one_label"), which is the form of the published data.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from misalign_bench.build.classify import softmax
from misalign_bench.build.classify.features import Features
from misalign_bench.build.classify.features import choose as choose_features
from misalign_bench.build.classify.head import (
    FORMAT,
    STEPS,
    Head,
    groups,
    number_of,
    raw,
    rounded,
    scale,
    spans,
)
from misalign_bench.build.classify.reliability import Array, Flags, diagrams
from misalign_bench.build.classify.scaling import Scaling, choose
from misalign_bench.build.classify.softmax import Recipe, Weights
from misalign_bench.build.classify.terms import Counts, Floats, count
from misalign_bench.errors import UserError
from misalign_bench.records import DIMENSIONS, Dimension
from misalign_bench.taxonomy.loader import taxonomy

FOLDS = 5
LEAST_CLUSTERS = 50
_CUTS = np.arange(1, 91) / 100


@dataclass(frozen=True, slots=True)
class Labelled:
    """Labelled prompts, ready to be fitted on.

    Attributes:
        ids: content ids, no two equal.
        texts: the prompts.
        labels: their ``dimension/name`` labels.
        clusters: the near-duplicate cluster of each.
        vectors: their sentence vectors.
    """

    ids: Sequence[str]
    texts: Sequence[str]
    labels: Sequence[Sequence[str]]
    clusters: Sequence[str]
    vectors: Floats


def fit_head(
    data: Labelled,
    embedder: Mapping[str, str],
    *,
    source: str = "",
    recipe: Recipe | None = None,
    seed: int = 0,
    settled: Callable[[], None] = lambda: None,
) -> Head:
    """Fit a head.

    Args:
        data: the labelled prompts.
        embedder: ``name`` and ``identity`` of what made the vectors.
        source: the name of the file they come from, for the manifest.
        recipe: how; by default what was chosen on the published prompts.
        seed: of folds and of the order of prompts.
        settled: called after each of ``FOLDS + 1`` fits.

    Raises:
        UserError: too few prompts to put into folds, or no label in some dimension.
    """
    recipe = recipe or Recipe()
    truth = flags(data.labels)
    _refuse_too_little(data, truth)
    counts = [count(text) for text in data.texts]
    targets = shares(truth)
    fold = folds(data.clusters, seed)
    unseen = _out_of_fold(data, counts, targets, fold, recipe, seed, settled)
    scalings: dict[Dimension, Scaling] = {}
    losses: dict[str, Any] = {}
    for dimension, span in spans().items():
        scalings[dimension], losses[dimension] = choose(unseen[:, span], truth[:, span], fold)
    probabilities = rounded(scale(unseen, scalings))
    delta, figures = _measured(unseen, probabilities, truth)
    everything = np.arange(len(truth))
    features, weights = fit_weights(data, counts, targets, everything, recipe, seed)
    settled()
    manifest = {
        "format": FORMAT,
        "seed": seed,
        "recipe": asdict(recipe),
        "taxonomy": taxonomy().digest,
        "embedder": dict(embedder),
        "data": _about(data, truth, source),
        "versions": _versions(),
        "folds": FOLDS,
        "delta": delta,
        "scaling": {dimension: held.as_table() for dimension, held in scalings.items()},
        "scaling_log_loss": losses,
        "out_of_fold": figures,
    }
    numbers = np.array([number_of(identity) for identity in data.ids], dtype=np.uint64)
    order = np.argsort(numbers)
    kept = np.rint(probabilities[order] * STEPS).astype(np.uint16)
    return Head(features, _halved(weights), scalings, numbers[order], kept, manifest)


def fit_weights(
    data: Labelled,
    counts: Sequence[Counts],
    targets: Floats,
    rows: npt.NDArray[np.int64],
    recipe: Recipe,
    seed: int,
) -> tuple[Features, Weights]:
    """Choose features and fit weights on some of the prompts."""
    chosen, vectors = [counts[row] for row in rows.tolist()], data.vectors[rows]
    features = choose_features(vectors, chosen, recipe, seed)
    weights = softmax.fit(
        features.dense(vectors),
        features.terms.rows(chosen),
        targets[rows],
        list(groups().values()),
        recipe,
        seed,
    )
    return features, weights


def _out_of_fold(
    data: Labelled,
    counts: Sequence[Counts],
    targets: Floats,
    fold: npt.NDArray[np.int64],
    recipe: Recipe,
    seed: int,
    settled: Callable[[], None],
) -> Array:
    """What heads fitted on the other folds say about each prompt, before scaling."""
    unseen = np.empty((len(fold), len(taxonomy().domains)), dtype=np.float64)
    for held in range(FOLDS):
        out, others = np.flatnonzero(fold == held), np.flatnonzero(fold != held)
        features, weights = fit_weights(data, counts, targets, others, recipe, seed)
        chosen = [counts[row] for row in out.tolist()]
        unseen[out] = raw(features.scores(weights, data.vectors[out], chosen))
        settled()
    return unseen


def flags(labels: Sequence[Sequence[str]]) -> Flags:
    """Return prompts by the 111 domains, true where a prompt has the label."""
    held = taxonomy()
    found = np.zeros((len(labels), len(held.domains)), dtype=np.bool_)
    for row, keys in enumerate(labels):
        found[row, [held.index(key) for key in keys]] = True
    return found


def shares(truth: Flags) -> Floats:
    """Return prompts by classes: "none" where a dimension has no label, else equal parts."""
    parts = []
    for span in spans().values():
        block = truth[:, span].astype(np.float32)
        total = block.sum(axis=1, keepdims=True)
        parts += [(total == 0).astype(np.float32), block / np.maximum(total, 1.0)]
    found: Floats = np.concatenate(parts, axis=1)
    return found


def folds(clusters: Sequence[str], seed: int, count: int = FOLDS) -> npt.NDArray[np.int64]:
    """Return the fold of each prompt: near-duplicates share theirs."""
    numbers = [
        int(hashlib.sha256(f"{seed}:{cluster}".encode()).hexdigest()[:8], 16) % count
        for cluster in clusters
    ]
    return np.array(numbers, dtype=np.int64)


def one_label(probabilities: Array, delta: float) -> npt.NDArray[np.int64]:
    """Return the most probable domain of each row if it reaches delta, else -1."""
    best = probabilities.argmax(axis=1)
    reached = probabilities[np.arange(len(best)), best] >= delta
    return np.where(reached, best, -1)


def hits(said: Flags, truth: Flags) -> dict[str, float | None]:
    """Return precision, recall and F1 over all (prompt, domain) pairs."""
    both, given, true = (int(held.sum()) for held in (said & truth, said, truth))
    return {
        "precision": round(both / given, 4) if given else None,
        "recall": round(both / true, 4) if true else None,
        "f1": round(2 * both / (given + true), 4) if given + true else None,
        "labels_per_prompt": round(given / len(truth), 4) if len(truth) else None,
    }


def cuts(probabilities: Array, truth: Flags) -> tuple[float, float]:
    """Return the thresholds of the highest F1: for all labels at once, and for one label."""
    both = [((probabilities >= cut) & truth).sum() for cut in _CUTS]
    given = [(probabilities >= cut).sum() for cut in _CUTS]
    many = [2 * hit / (said + truth.sum()) for hit, said in zip(both, given, strict=True)]
    best = probabilities.argmax(axis=1)
    rows = np.arange(len(best))
    chance, right = probabilities[rows, best], truth[rows, best]
    one = [
        2 * (right & (chance >= cut)).sum() / ((chance >= cut).sum() + truth.sum()) for cut in _CUTS
    ]
    return float(_CUTS[int(np.argmax(many))]), float(_CUTS[int(np.argmax(one))])


def _measured(
    unseen: Array, probabilities: Array, truth: Flags
) -> tuple[dict[str, float], dict[str, Any]]:
    """Thresholds, and figures of each dimension, all out of fold."""
    delta: dict[str, float] = {}
    figures: dict[str, Any] = {}
    for dimension, span in spans().items():
        chances, held = probabilities[:, span], truth[:, span]
        delta[dimension], single = cuts(chances, held)
        best = one_label(chances, single)
        said = np.zeros_like(held)
        said[np.flatnonzero(best >= 0), best[best >= 0]] = True
        figures[dimension] = {
            "all_labels": hits(chances >= delta[dimension], held),
            "one_label": {"delta": single, **hits(said, held)},
            "reliability": diagrams(chances, held),
            "reliability_before": diagrams(unseen[:, span], held),
        }
    return delta, figures


def _versions() -> dict[str, str]:
    return {
        "misalign-bench": version("misalign-bench"),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _about(data: Labelled, truth: Flags, source: str) -> dict[str, Any]:
    rows = sorted(
        [identity, *sorted(keys)] for identity, keys in zip(data.ids, data.labels, strict=True)
    )
    return {
        "source": source,
        "sha256": hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
        "prompts": len(data.ids),
        "clusters": len(set(data.clusters)),
        "labels": {name: int(truth[:, span].sum()) for name, span in spans().items()},
    }


def _halved(weights: Weights) -> Weights:
    """The weights as the file holds them, so that a head is the same before and after it."""
    dense, sparse = (
        held.astype(np.float16).astype(np.float32) for held in (weights.dense, weights.sparse)
    )
    return Weights(weights.bias, dense, sparse)


def _refuse_too_little(data: Labelled, truth: Flags) -> None:
    if (clusters := len(set(data.clusters))) < LEAST_CLUSTERS:
        raise UserError(
            f"{clusters} prompts that are no near-duplicates are too few to fit on",
            mend=f"Give at least {LEAST_CLUSTERS}",
        )
    for dimension in DIMENSIONS:
        if not truth[:, spans()[dimension]].any():
            raise UserError(
                f"no prompt has a {dimension} label", mend="Give labels in all three dimensions"
            )
