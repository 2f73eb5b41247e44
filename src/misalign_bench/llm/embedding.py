"""Sentence embeddings by name, for the embedding classifier.

``embedded/minilm`` is all-MiniLM-L6-v2 in int8, shipped by a package; ``onnx/FOLDER`` is any
sentence-transformers model exported to ONNX. Names joined by ``+`` give the vectors side by side,
each part scaled alike, so that the whole has length 1 again and a cosine is the mean of theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from misalign_bench.config_model import embedder_names, named_without_folders
from misalign_bench.errors import UserError
from misalign_bench.llm import weights
from misalign_bench.llm.sentence_model import SentenceFiles, SentenceModel, read_folder
from misalign_bench.llm.weights_sources import Progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

EMBEDDER = "embedded/minilm"
"""Embeds where nothing else is named."""


class Embedder(Protocol):
    """Turns texts into unit vectors."""

    @property
    def name(self) -> str:
        """What the configuration calls it, for example ``embedded/minilm``; no folder's path."""
        ...

    @property
    def identity(self) -> str:
        """Everything that determines its vectors; part of the key of what rests on them."""
        ...

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return one L2-normalised row of 32-bit floats for each text, in order."""
        ...


def is_embedder(name: str) -> bool:
    """Say whether a model string names what embeds, not what chats."""
    return all(part == EMBEDDER or part.startswith("onnx/") for part in embedder_names(name))


def load_embedder(
    name: str = EMBEDDER, threads: int = 2, progress: Progress | None = None
) -> Embedder:
    """Return the embedder of a name, fetching its weights if need be.

    Raises:
        UserError: there is no such embedder, or the extra it needs is not installed.
        OutsideWorld: its weights are not cached and no source could provide them.
    """
    found = [_one(part, threads, progress) for part in embedder_names(name)]
    return found[0] if len(found) == 1 else _Joined(found)


def _one(name: str, threads: int, progress: Progress | None) -> SentenceModel:
    kind, _, path = name.partition("/")
    if kind == "onnx" and path:
        return SentenceModel(named_without_folders(name), read_folder(Path(path)), threads)
    if name != EMBEDDER:
        raise UserError(f"there is no embedder '{name}'", mend="Use embedded/minilm or onnx/FOLDER")
    digest = "+".join(file.sha256 for file in weights.find("minilm").files)
    files = SentenceFiles(
        weights.get("minilm", progress=progress),
        weights.file_path("minilm", "tokenizer.json"),
        f"minilm sha256={digest}",
    )
    return SentenceModel(name, files, threads)


class _Joined:
    """Several embedders side by side."""

    def __init__(self, parts: Sequence[SentenceModel]) -> None:
        self._parts = parts
        self.name = "+".join(part.name for part in parts)
        models = " & ".join(part.model for part in parts)
        self.identity = f"{models} {parts[0].engine}"

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return one L2-normalised row of 32-bit floats for each text, in order."""
        import numpy as np

        blocks = [part.embed(texts) for part in self._parts]
        scale = np.float32(1 / np.sqrt(len(blocks)))
        joined: npt.NDArray[np.float32] = np.concatenate(blocks, axis=1) * scale
        return joined
