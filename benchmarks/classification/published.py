"""The published prompts, their sentence vectors (cached here), and how labels are scored.

The published labels are one model's opinion (Mistral-7B-Instruct-v0.3), not truth. Comparisons are
grouped by near-duplicate cluster and scored as one label or none per dimension (contract, section
4); a figure is a difference of two methods on the same prompts, resampled together.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from misalign_bench.build.classify.fit_head import Labelled, flags, folds
from misalign_bench.build.classify.head import spans
from misalign_bench.build.deduplicate import cluster_ids
from misalign_bench.build.ingest import ingest
from misalign_bench.config import DeduplicateSettings, SourceSettings
from misalign_bench.llm.embedding import EMBEDDER, Embedder, load_embedder
from misalign_bench.records import DIMENSIONS, Dimension, Prompt

CACHE = Path(__file__).parent / "cache"
DATA = Path(__file__).parents[2] / ".." / "shared" / "data" / "savacu_classified_prompts.csv"
RESAMPLES = 2000

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Published:
    """All distinct prompts with their published labels."""

    prompts: list[Prompt]
    data: Labelled
    truth: Flags
    clusters: Places
    embedder: dict[str, str]

    def held_out(self, seed: int) -> tuple[Places, Places]:
        """Return the rows to fit on and the held-out fifth; near-duplicates stay together."""
        fold = folds([f"held out {name}" for name in self.data.clusters], seed)
        return np.flatnonzero(fold != 0), np.flatnonzero(fold == 0)

    def part(self, rows: Places) -> Labelled:
        """Return some of the prompts."""
        chosen = rows.tolist()
        return Labelled(
            [self.data.ids[row] for row in chosen],
            [self.data.texts[row] for row in chosen],
            [self.data.labels[row] for row in chosen],
            [self.data.clusters[row] for row in chosen],
            self.data.vectors[rows],
        )


def load(path: Path = DATA, embedder_name: str = EMBEDDER) -> Published:
    """Read the file; identical later rows are left out, every language is kept."""
    prompts = list(ingest(SourceSettings(path=str(path), language=None)).prompts)
    names = cluster_ids(prompts, DeduplicateSettings())
    clusters = [names[prompt.id] for prompt in prompts]
    labels = [prompt.published or () for prompt in prompts]
    embedder = load_embedder(embedder_name)
    vectors = _vectors([prompt.text for prompt in prompts], embedder)
    data = Labelled(
        [prompt.id for prompt in prompts],
        [prompt.text for prompt in prompts],
        labels,
        clusters,
        vectors,
    )
    number = {name: place for place, name in enumerate(dict.fromkeys(clusters))}
    return Published(
        prompts,
        data,
        flags(labels),
        np.array([number[name] for name in clusters]),
        {"name": embedder.name, "identity": embedder.identity},
    )


def _vectors(texts: list[str], embedder: Embedder) -> npt.NDArray[np.float32]:
    digest = hashlib.sha256("\0".join([embedder.identity, *texts]).encode()).hexdigest()[:16]
    file = CACHE / f"vectors-{digest}.npy"
    if not file.is_file():
        CACHE.mkdir(exist_ok=True)
        np.save(file, embedder.embed(texts))
    held: npt.NDArray[np.float32] = np.load(file, allow_pickle=False)
    return held


@dataclass(frozen=True)
class Hits:
    """Labels of one dimension that were given, and those that were right, prompt by prompt."""

    right: Flags
    said: Flags
    true: Flags

    @property
    def f1(self) -> float:
        """Micro-F1 on named labels."""
        return float(2 * self.right.sum() / (self.said.sum() + self.true.sum()))

    @property
    def precision(self) -> float:
        """Share of the given labels that are published."""
        return float(self.right.sum() / self.said.sum())

    @property
    def recall(self) -> float:
        """Share of the published labels that were given."""
        return float(self.right.sum() / self.true.sum())


def score(best: Places, truth: Flags, dimension: Dimension) -> Hits:
    """Score one label or none (-1) a prompt, by place within the dimension."""
    held = truth[:, spans()[dimension]]
    said = best >= 0
    right = said & held[np.arange(len(best)), np.where(said, best, 0)]
    return Hits(right, said, np.asarray(held.any(axis=1)))


def interval(
    pairs: list[tuple[Places, Hits, Hits]], clusters: int, seed: int = 0
) -> tuple[float, float, float]:
    """Mean difference of F1 over seeds (first minus second), with its 95% interval.

    Args:
        pairs: for each seed the cluster of every held-out prompt, and both methods' hits.
        clusters: how many clusters there are in all.
        seed: of the resamples.
    """
    sums = []
    for place, one, two in pairs:
        for held in (one, two):
            total = held.said.astype(np.float64) + held.true
            sums.append(
                (
                    np.bincount(place, held.right.astype(np.float64), clusters),
                    np.bincount(place, total, clusters),
                )
            )
    draw = np.random.default_rng(seed)
    values = []
    for _ in range(RESAMPLES):
        times = np.bincount(draw.integers(clusters, size=clusters), minlength=clusters)
        f1 = [2 * (times @ right) / (times @ total) for right, total in sums]
        values.append(np.mean([one - two for one, two in zip(f1[::2], f1[1::2], strict=True)]))
    mean = float(np.mean([one.f1 - two.f1 for _, one, two in pairs]))
    low, high = np.percentile(values, (2.5, 97.5))
    return mean, float(low), float(high)


__all__ = ["CACHE", "DATA", "DIMENSIONS", "Hits", "Published", "interval", "load", "score"]
