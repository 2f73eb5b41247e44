"""Sentence embeddings in process: all-MiniLM-L6-v2 in int8, for the embedding classifier.

Texts are embedded in batches of equal token length, so that nothing is ever padded. Then a text's
vector does not depend on what else is in the call, bit for bit, which replay needs: a classifier
that sees one prompt more must not move the others. Measured on 2,000 prompts with onnxruntime
1.32 on x86-64: equal to one text at a time in every bit, with one thread and with two, and 1.6
times as fast. Another processor or onnxruntime may round differently; the version is part of the
identity.

Pooling and truncation are those of the model's authors (Reimers and Gurevych 2019, sentence-bert):
the mean over tokens, at most 256 of them, scaled to unit length.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from misalign_bench.errors import UserError
from misalign_bench.llm import weights
from misalign_bench.llm.weights_sources import Progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MAX_TOKENS = 256
# Bounds the memory of a batch; between 256 and 4,096 the speed hardly differs.
BATCH_TOKENS = 1024
# Texts are tokenised in windows, so that memory does not grow with the number of texts.
WINDOW = 8192


class Embedder(Protocol):
    """Turns texts into unit vectors."""

    @property
    def name(self) -> str:
        """What the configuration calls it, for example ``embedded/minilm``."""
        ...

    @property
    def identity(self) -> str:
        """Everything that determines its vectors; part of the key of what rests on them."""
        ...

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return one L2-normalised row of 32-bit floats for each text, in order."""
        ...


def load_embedder(
    name: str = "embedded/minilm", threads: int = 2, progress: Progress | None = None
) -> Embedder:
    """Return the embedder of a ``provider/model`` string, fetching its weights if need be.

    Raises:
        UserError: there is no such embedder, or the extra it needs is not installed.
        OutsideWorld: its weights are not cached and no source could provide them.
    """
    if name != "embedded/minilm":
        raise UserError(f"there is no embedder '{name}'", mend="Use embedded/minilm")
    _require_extra()
    model = weights.get("minilm", progress=progress)
    return MiniLM(model, weights.file_path("minilm", "tokenizer.json"), threads)


class MiniLM:
    """all-MiniLM-L6-v2 on onnxruntime; 384 dimensions."""

    dimensions = 384

    def __init__(self, model: Path, tokenizer: Path, threads: int = 2) -> None:
        _require_extra()
        import onnxruntime
        import tokenizers

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Idle threads that spin would take the processor from the language model beside it.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session: Any = onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(tokenizer))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.no_padding()
        files = "+".join(file.sha256 for file in weights.find("minilm").files)
        self.name = "embedded/minilm"
        self.identity = f"minilm sha256={files} tokens={MAX_TOKENS} pooling=mean " + (
            f"onnxruntime={onnxruntime.__version__} tokenizers={tokenizers.__version__}"
        )

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return one L2-normalised row of 32-bit floats for each text, in order."""
        import numpy as np

        vectors = np.empty((len(texts), self.dimensions), dtype=np.float32)
        for start in range(0, len(texts), WINDOW):
            window = list(texts[start : start + WINDOW])
            tokens = [encoded.ids for encoded in self._tokenizer.encode_batch(window)]
            for rows in _equal_batches([len(ids) for ids in tokens]):
                ids = np.array([tokens[row] for row in rows], dtype=np.int64)
                vectors[[start + row for row in rows]] = self._forward(ids)
        return vectors

    def _forward(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        import numpy as np

        # All rows are equally long, so the mask is one everywhere and the mean is a plain mean.
        feed = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.zeros_like(ids),
        }
        (hidden,) = self._session.run(["last_hidden_state"], feed)
        mean = hidden.mean(axis=1, dtype=np.float64)
        unit: npt.NDArray[np.float32] = (mean / np.linalg.norm(mean, axis=1, keepdims=True)).astype(
            np.float32
        )
        return unit


def _equal_batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield row numbers in batches of one length each, at most ``BATCH_TOKENS`` tokens together.

    >>> list(_equal_batches([3, 600, 3, 600]))
    [[0, 2], [1], [3]]
    """
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row, length in enumerate(lengths):
        rows_of[length].append(row)
    for length, rows in sorted(rows_of.items()):
        step = max(1, BATCH_TOKENS // length)
        for start in range(0, len(rows), step):
            yield rows[start : start + step]


def _require_extra() -> None:
    try:
        import onnxruntime  # noqa: F401
        import tokenizers  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"the embedded models need the package {error.name}",
            mend="Install it: pip install 'misalign-bench[embedded]'",
        ) from error
