"""A sentence-embedding model in process: a folder with ``model.onnx`` and ``tokenizer.json``.

The folder is laid out as sentence-transformers publishes its models: the network lies in it or in
its folder ``onnx``, ``1_Pooling/config.json`` says how token vectors become one (their mean, or the
first token's), and ``sentence_bert_config.json`` how many tokens are read (Reimers and Gurevych
2019). What a model of that kind has beside (a dense layer after pooling) is refused, not left out.

Texts are embedded in batches of equal token length, so that nothing is ever padded. Then a text's
vector does not depend on what else is in the call, bit for bit, which replay needs: a classifier
that sees one prompt more must not move the others. Measured on 2,000 prompts with onnxruntime
1.32 on x86-64, for all-MiniLM-L6-v2 in int8: equal to one text at a time in every bit, with one
thread and with two, and 1.6 times as fast. Another processor or onnxruntime may round differently;
the version is part of the identity.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from misalign_bench.errors import OutsideWorld, UserError
from misalign_bench.json_text import read_json
from misalign_bench.llm.weights_sources import sha256_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MAX_TOKENS = 256
# Bounds the memory of a batch; between 256 and 4,096 the speed hardly differs.
BATCH_TOKENS = 1024
# Texts are tokenised in windows, so that memory does not grow with the number of texts.
WINDOW = 8192

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_PARTS = ("Transformer", "Pooling", "Normalize")
_OUTPUTS = ("last_hidden_state", "token_embeddings")


@dataclass(frozen=True, slots=True)
class SentenceFiles:
    """The files of a model and how they are used.

    Attributes:
        network: the ONNX file.
        tokenizer: ``tokenizer.json``.
        pooling: how token vectors become one.
        max_tokens: how many tokens of a text are read.
        digest: names the files' bytes.
    """

    network: Path
    tokenizer: Path
    digest: str
    pooling: Literal["mean", "cls"] = "mean"
    max_tokens: int = MAX_TOKENS


class SentenceModel:
    """A sentence-embedding model on onnxruntime."""

    def __init__(self, name: str, files: SentenceFiles, threads: int = 2) -> None:
        _require_extra()
        import onnxruntime
        import tokenizers

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Idle threads that spin would take the processor from the language model beside it.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(files.network), options, providers=["CPUExecutionProvider"]
            )
            self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(files.tokenizer))
        except Exception as error:  # both libraries raise types of their own
            raise UserError(
                f"{name} cannot be loaded: {str(error).splitlines()[0][:200]}",
                mend="Give a sentence-transformers model exported to ONNX",
            ) from None
        self._tokenizer.enable_truncation(files.max_tokens)
        self._tokenizer.no_padding()
        self._pooling = files.pooling
        self._inputs, self._output = _signature(self._session, name)
        self.dimensions = int(self._session.get_outputs()[self._output].shape[-1])
        self.name = name
        self.model = f"{files.digest} tokens={files.max_tokens} pooling={files.pooling}"
        self.engine = f"onnxruntime={onnxruntime.__version__} tokenizers={tokenizers.__version__}"

    @property
    def identity(self) -> str:
        """Everything that determines its vectors."""
        return f"{self.model} {self.engine}"

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
        values = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.zeros_like(ids),
        }
        feed = {name: values[name] for name in self._inputs}
        hidden = self._session.run(None, feed)[self._output]
        whole = (
            hidden.mean(axis=1, dtype=np.float64)
            if self._pooling == "mean"
            else hidden[:, 0].astype(np.float64)
        )
        unit: npt.NDArray[np.float32] = (
            whole / np.linalg.norm(whole, axis=1, keepdims=True)
        ).astype(np.float32)
        return unit


def read_folder(folder: Path) -> SentenceFiles:
    """Find the files of a model's folder and read its settings.

    Raises:
        UserError: a file is missing, or the model has a part that is not supported.
        OutsideWorld: the system cannot read a file.
    """
    network = next(
        (folder / name for name in ("model.onnx", "onnx/model.onnx") if (folder / name).is_file()),
        None,
    )
    tokenizer = folder / "tokenizer.json"
    if network is None or not tokenizer.is_file():
        raise UserError(
            "the folder lacks " + ("tokenizer.json" if network else "model.onnx"),
            where=str(folder),
            mend="Give the folder of a sentence-transformers model exported to ONNX",
        )
    _refuse_other_parts(folder)
    pooling = _table(folder / "1_Pooling" / "config.json", {})
    length = _table(folder / "sentence_bert_config.json", {}).get("max_seq_length")
    used = [network, *sorted(network.parent.glob("model.onnx_data*")), tokenizer]
    try:
        digest = "+".join(sha256_of(file) for file in used)
    except OSError as error:
        raise OutsideWorld(f"cannot read {folder}: {error.strerror}") from error
    return SentenceFiles(
        network,
        tokenizer,
        f"onnx sha256={digest}",
        _pooling(pooling, folder),
        length if isinstance(length, int) and length > 0 else MAX_TOKENS,
    )


def _refuse_other_parts(folder: Path) -> None:
    for module in _table(folder / "modules.json", []):
        kind = str(module.get("type") if isinstance(module, dict) else module)
        if kind.rpartition(".")[2] not in _PARTS:
            raise UserError(
                f"the model has a part {kind}, which is not supported",
                where=str(folder),
                mend=f"Give a model of {', '.join(_PARTS)} only",
            )


def _pooling(settings: dict[str, Any], folder: Path) -> Literal["mean", "cls"]:
    """The mean unless the settings say otherwise; old and new names of the setting are read."""
    on = [key for key, value in settings.items() if key.startswith("pooling_mode_") and value]
    mode = str(settings.get("pooling_mode", "")) or (
        on[0].removeprefix("pooling_mode_") if on else "mean"
    )
    if mode in ("mean", "mean_tokens") and len(on) < 2:
        return "mean"
    if mode in ("cls", "cls_token") and len(on) < 2:
        return "cls"
    raise UserError(
        f"the model pools by {' and '.join(on) or mode}, which is not supported",
        where=str(folder),
        mend="Give a model that pools by the mean or the first token",
    )


def _signature(session: Any, name: str) -> tuple[list[str], int]:
    """Return the names of the inputs and the place of the output with one vector a token."""
    inputs = [one.name for one in session.get_inputs()]
    outputs = [one.name for one in session.get_outputs()]
    shapes = [one.shape for one in session.get_outputs()]
    place = next((outputs.index(one) for one in _OUTPUTS if one in outputs), 0)
    fits = len(shapes[place]) == 3 and isinstance(shapes[place][-1], int)
    if not fits or any(one not in _INPUTS for one in inputs):
        raise UserError(
            f"{name} is no sentence model: {', '.join(inputs)} in, {', '.join(outputs)} out",
            mend="Expected input_ids (with attention_mask, token_type_ids) and last_hidden_state",
        )
    return inputs, place


def _table(path: Path, default: Any) -> Any:
    """A small JSON file of the model, or the default where there is none."""
    if not path.is_file():
        return default
    try:
        found = read_json(path.read_text("utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, type(default)):
        raise UserError(
            "the file cannot be read as JSON", where=str(path), mend="Download it again"
        )
    return found


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
