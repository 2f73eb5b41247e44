"""The classifier without a language model: MiniLM sentence vectors and prototypes of domains.

``prototypes`` holds the method; it is fitted at each start on 537 labelled prompts of our own
(``taxonomy/labelled_prompts.jsonl``), in about three seconds on two cores. In grouped 5-fold
cross-validation of these prompts, log-loss of all 111 answers to a prompt (standard error 0.12):
cosine to the definitions 4.0, to the definitions and the centroid of the labelled prompts 3.8,
ridge regression of the labels on prompts and definitions 3.6, prototypes 3.6. Combinations of
these gain at most 0.03, and a further vector for each sentence of a prompt 0.02, so the simplest
stays. With the labels of 6,000 published prompts as truth, which played no part in fitting, the
prototypes do not stand behind the others either. Twice as many labelled prompts raise F1 by 0.01
to 0.02: what limits it is the embedding.

Delta = 0.5 is the point of the highest expected F1 in each dimension (``Logistic.cut``): labels
are rare, and without that move precision would be bought with two thirds of the labels.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from importlib import resources
from typing import Any

import numpy as np

from misalign_bench.build.classify import prototypes
from misalign_bench.build.classify.classify import Classified, in_batches
from misalign_bench.build.classify.reliability import diagrams
from misalign_bench.llm.embedding import EMBEDDER, Embedder, load_embedder
from misalign_bench.records import DIMENSIONS, Prompt
from misalign_bench.taxonomy.loader import Domain, taxonomy


class EmbeddingClassifier:
    """Probabilities from sentence vectors; fitted when it is made.

    Args:
        embedder: turns texts into unit vectors.
        labelled: prompts with their labels (``dimension/name``) to fit on; by default our own.
    """

    def __init__(
        self, embedder: Embedder, labelled: Sequence[tuple[str, Sequence[str]]] | None = None
    ) -> None:
        rows = list(labelled_prompts() if labelled is None else labelled)
        held = taxonomy()
        self._embedder = embedder
        self._digest = hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()
        self._labels = np.zeros((len(rows), len(held.domains)), dtype=np.bool_)
        for row, (_, keys) in enumerate(rows):
            self._labels[row, [held.index(key) for key in keys]] = True
        self._vectors = self._embed([text for text, _ in rows])
        self._definitions = self._embed([_question_free(domain) for domain in held.domains])
        self._spans = {}
        for dimension in DIMENSIONS:
            first = held.index(held.of(dimension)[0].key)
            self._spans[dimension] = slice(first, first + len(held.of(dimension)))
        self._head = prototypes.fit(self._vectors, self._labels, self._definitions, self._spans)

    @classmethod
    def load(cls, name: str = EMBEDDER) -> EmbeddingClassifier:
        """Load the embedder of this name and fit.

        Raises:
            UserError: there is no such embedder, or the extra it needs is not installed.
            OutsideWorld: its weights could not be had.
        """
        return cls(load_embedder(name))

    async def probabilities(self, prompts: Sequence[Prompt]) -> list[Classified]:
        """Return 111 probabilities per prompt; they do not depend on the other prompts."""
        return await in_batches(prompts, self._classify)

    def describe(self) -> dict[str, Any]:
        """Return embedder, fitted parameters, cross-validated figures and reliability."""
        return {
            "method": "embedding",
            "model": self._embedder.name,
            "identity": self._embedder.identity,
            "taxonomy": taxonomy().digest,
            "labelled_prompts": {"count": len(self._labels), "sha256": self._digest},
            "definition_weight": prototypes.DEFINITION_WEIGHT,
            "logistic": {
                dimension: _rounded(asdict(self._head.logistics[dimension]))
                for dimension in DIMENSIONS
            },
            "cross_validated": {
                dimension: _rounded(asdict(held)) for dimension, held in self.figures.items()
            },
            "reliability": {
                dimension: diagrams(self._unseen[:, span], self._labels[:, span])
                for dimension, span in self._spans.items()
            },
        }

    @cached_property
    def figures(self) -> dict[str, prototypes.Figures]:
        """Agreement with the labelled prompts at p = 0.5, each prompt out of its fold."""
        return {
            dimension: prototypes.figures(self._unseen[:, span], self._labels[:, span])
            for dimension, span in self._spans.items()
        }

    @cached_property
    def _unseen(self) -> prototypes.Array:
        """The labelled prompts' own probabilities, each out of its fold."""
        return prototypes.cross_validated(
            self._vectors, self._labels, self._definitions, self._spans
        )

    def _classify(self, texts: Sequence[str]) -> list[tuple[float, ...]]:
        return [tuple(row) for row in self._head.probabilities(self._embed(texts)).tolist()]

    def _embed(self, texts: Sequence[str]) -> prototypes.Array:
        return self._embedder.embed(texts).astype(np.float64)


def labelled_prompts() -> list[tuple[str, tuple[str, ...]]]:
    """Return the prompts of our own with their labels; some have none."""
    file = resources.files("misalign_bench.taxonomy").joinpath("labelled_prompts.jsonl")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [(row["prompt"], tuple(row["labels"])) for row in rows]


def _question_free(domain: Domain) -> str:
    """Name and definition without its last part: a vector knows no "not"."""
    return f"{domain.name}: {domain.definition.partition('Out:')[0].strip()}"


def _rounded(values: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else round(value, 4) for name, value in values.items()}
