"""The embedding classifier with a head that ``misalign-bench fit`` wrote.

Prompts that the head was fitted on get their out-of-fold probabilities, all others those of the
head. The head is bound to the embedding model it was fitted with; another version of the engine
may round a vector's last bits differently, which four decimals mostly hide.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from misalign_bench.build.classify.classify import Classified, in_batches
from misalign_bench.build.classify.head import Head, load
from misalign_bench.build.ingest import content_id
from misalign_bench.errors import UserError
from misalign_bench.llm.embedding import EMBEDDER, Embedder, load_embedder
from misalign_bench.records import DIMENSIONS, Prompt
from misalign_bench.taxonomy.loader import taxonomy


class FittedClassifier:
    """Probabilities from sentence vectors, terms and a fitted head.

    Args:
        embedder: the one the head was fitted with.
        head: as loaded.
        digest: SHA-256 of its file.

    Raises:
        UserError: the head was fitted with another embedding model.
    """

    def __init__(self, embedder: Embedder, head: Head, digest: str = "") -> None:
        wanted = str(head.manifest["embedder"]["identity"])
        if _model(wanted) != _model(embedder.identity):
            raise UserError(
                f"the head was fitted with another model than {embedder.name}",
                mend="Fit it again",
            )
        self._embedder, self._head, self._digest = embedder, head, digest

    @classmethod
    def load(cls, path: str | Path, name: str = EMBEDDER) -> FittedClassifier:
        """Load a head's file and the embedder of this name.

        Raises:
            UserError: no head that can be used, no such embedder, or an extra is not installed.
            OutsideWorld: the file cannot be read, or the embedder's weights could not be had.
        """
        head = load(path)
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        return cls(load_embedder(name), head, digest)

    @property
    def delta(self) -> dict[str, float]:
        """The threshold of each dimension that was chosen out of fold."""
        return self._head.delta

    async def probabilities(self, prompts: Sequence[Prompt]) -> list[Classified]:
        """Return 111 probabilities per prompt; they do not depend on the other prompts."""
        return await in_batches(prompts, self._classify)

    def describe(self) -> dict[str, Any]:
        """Return embedder, head, calibration and out-of-fold figures per dimension."""
        manifest = self._head.manifest
        figures = manifest["out_of_fold"]
        return {
            "method": "embedding",
            "model": self._embedder.name,
            "identity": self._embedder.identity,
            "taxonomy": taxonomy().digest,
            "head": {
                "sha256": self._digest,
                "fitted_with": manifest["embedder"]["identity"],
                **{key: manifest[key] for key in ("seed", "data", "versions", "folds")},
            },
            "fitted_delta": self.delta,
            "scaling": {name: manifest["scaling"][name]["kind"] for name in DIMENSIONS},
            "out_of_fold": {
                name: {key: figures[name][key] for key in ("all_labels", "one_label")}
                for name in DIMENSIONS
            },
            "reliability": {name: figures[name]["reliability"] for name in DIMENSIONS},
        }

    def _classify(self, texts: Sequence[str]) -> list[Classified]:
        vectors = self._embedder.embed(texts).astype(np.float64)
        return [
            self._head.probabilities(text, vector, content_id(text))
            for text, vector in zip(texts, vectors, strict=True)
        ]


def _model(identity: str) -> str:
    """The identity without the versions of the engine."""
    return identity.partition(" onnxruntime=")[0]
