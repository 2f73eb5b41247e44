"""A fitted head: what it holds, what it computes, and its file.

A head is a linear map from the features of a prompt to a softmax per dimension ("none" first), then
a calibration per dimension. Its file is a NumPy archive of plain arrays, read with
``allow_pickle=False``: nothing in it can run. The training manifest stands in it as JSON. The file
also holds, by content id, the out-of-fold probabilities of the prompts it was fitted on, because a
head must not label those from memory (contract, section 4). No text is in it, but hashed terms and,
as landmarks, the sentence vectors of some of the prompts.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from misalign_bench.build.classify.features import Features, nearness
from misalign_bench.build.classify.reliability import Array
from misalign_bench.build.classify.scaling import Scaling, read
from misalign_bench.build.classify.softmax import Weights
from misalign_bench.build.classify.terms import Terms, count
from misalign_bench.errors import OutsideWorld, UserError
from misalign_bench.json_text import read_json
from misalign_bench.records import DIMENSIONS, Dimension
from misalign_bench.taxonomy.loader import taxonomy

FORMAT = 1
LARGEST = 1 << 29
"""Bytes that a head may unpack to."""
LARGEST_WEIGHT = 1e6
"""The most that a number of a head may be, either way; fitted ones are below ten."""
STEPS = 10_000
"""Probabilities are rounded to one in so many, so that the last bits of a sum are no result."""

_ARRAYS: Mapping[str, tuple[str, int]] = {
    "landmarks": ("float16", 2),
    "terms": ("uint32", 1),
    "term_weights": ("float32", 1),
    "bias": ("float32", 1),
    "dense": ("float16", 2),
    "sparse": ("float16", 2),
    "seen": ("uint64", 1),
    "out_of_fold": ("uint16", 2),
    "manifest": ("uint8", 1),
}


def groups() -> dict[Dimension, slice]:
    """Return where the classes of each dimension stand: "none", then its domains."""
    places: dict[Dimension, slice] = {}
    start = 0
    for dimension in DIMENSIONS:
        stop = start + 1 + len(taxonomy().of(dimension))
        places[dimension] = slice(start, stop)
        start = stop
    return places


def spans() -> dict[Dimension, slice]:
    """Return where the domains of each dimension stand among the 111."""
    places: dict[Dimension, slice] = {}
    start = 0
    for dimension in DIMENSIONS:
        stop = start + len(taxonomy().of(dimension))
        places[dimension] = slice(start, stop)
        start = stop
    return places


@dataclass(frozen=True, slots=True)
class Head:
    """A fitted head.

    Attributes:
        features: what it sees of a prompt.
        weights: to all classes.
        scalings: the calibration of each dimension.
        seen: the content ids of the prompts it was fitted on, rising, as numbers.
        out_of_fold: their probabilities (in steps) from heads that had not seen them.
        manifest: how it was fitted, and how well it holds.
    """

    features: Features
    weights: Weights
    scalings: Mapping[Dimension, Scaling]
    seen: npt.NDArray[np.uint64]
    out_of_fold: npt.NDArray[np.uint16]
    manifest: Mapping[str, Any]

    @property
    def delta(self) -> dict[str, float]:
        """The threshold of each dimension at which its labels agreed best, out of fold."""
        return {dimension: float(self.manifest["delta"][dimension]) for dimension in DIMENSIONS}

    @property
    def one_label_delta(self) -> dict[str, float]:
        """The same for the most probable label of each dimension alone."""
        figures = self.manifest["out_of_fold"]
        return {name: float(figures[name]["one_label"]["delta"]) for name in DIMENSIONS}

    def probabilities(self, text: str, vector: Array, identity: str) -> tuple[float, ...]:
        """Return 111 probabilities of one prompt: out of fold if it was fitted on.

        Args:
            text: the prompt.
            vector: its sentence vector.
            identity: its content id.
        """
        number = np.uint64(number_of(identity))
        place = int(np.searchsorted(self.seen, number))
        if place < len(self.seen) and self.seen[place] == number:
            return tuple((self.out_of_fold[place] / STEPS).tolist())
        return tuple(rounded(self.scaled(self.scores(text, vector)[None]))[0].tolist())

    def scores(self, text: str, vector: Array) -> Array:
        """Return the linear scores of all classes; they do not depend on other prompts."""
        columns, values = self.features.terms.row(count(text))
        held = self.weights
        dense = vector.astype(np.float32)
        near = nearness((self.features.landmarks @ dense)[None])[0]
        found = held.bias + np.concatenate([dense, near]) @ held.dense
        found += values @ held.sparse[columns]
        scores: Array = found.astype(np.float64)
        return scores

    def scaled(self, scores: Array) -> Array:
        """Return the calibrated probabilities of the 111 domains from scores, row by row."""
        return scale(raw(scores), self.scalings)


def raw(scores: Array) -> Array:
    """Return the softmax of each dimension without its "none": 111 probabilities a row."""
    parts = []
    for group in groups().values():
        held = np.exp(scores[:, group] - scores[:, group].max(axis=1, keepdims=True))
        parts.append((held / held.sum(axis=1, keepdims=True))[:, 1:])
    found: Array = np.concatenate(parts, axis=1)
    return found


def scale(probabilities: Array, scalings: Mapping[Dimension, Scaling]) -> Array:
    """Calibrate each dimension's part."""
    found = np.empty_like(probabilities)
    for dimension, span in spans().items():
        found[:, span] = scalings[dimension](probabilities[:, span])
    return found


def rounded(probabilities: Array) -> Array:
    """Round to whole steps."""
    steps: Array = np.rint(probabilities * STEPS) / STEPS
    return steps


def number_of(identity: str) -> int:
    """Return a content id (``p`` and 16 hex digits) as a number."""
    return int(identity[1:], 16)


def save(head: Head, path: Path) -> None:
    """Write a head; the same head gives the same bytes."""
    about = json.dumps(head.manifest, sort_keys=True, ensure_ascii=False).encode()
    values: dict[str, npt.NDArray[Any]] = {
        "landmarks": head.features.landmarks,
        "terms": head.features.terms.hashes,
        "term_weights": head.features.terms.weights,
        "bias": head.weights.bias,
        "dense": head.weights.dense,
        "sparse": head.weights.sparse,
        "seen": head.seen,
        "out_of_fold": head.out_of_fold,
        "manifest": np.frombuffer(about, np.uint8),
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, (kind, _) in _ARRAYS.items():
            # A ZipInfo made by hand carries a fixed date, not the clock's.
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w") as file:
                np.save(file, values[name].astype(kind), allow_pickle=False)


def load(path: str | Path) -> Head:
    """Read a head and check that it fits together and to this taxonomy.

    Raises:
        UserError: no such file, not a head, of another format or another taxonomy.
        OutsideWorld: the system cannot read it.
    """
    arrays = _arrays(Path(path))
    where = str(path)
    try:
        manifest = read_json(arrays["manifest"].tobytes())
        version, digest = manifest["format"], manifest["taxonomy"]
        scalings = {name: read(manifest["scaling"][name]) for name in DIMENSIONS}
        deltas = [float(manifest["delta"][name]) for name in DIMENSIONS]
        deltas += [
            float(manifest["out_of_fold"][name]["one_label"]["delta"]) for name in DIMENSIONS
        ]
        manifest["embedder"]["identity"].partition(" ")
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, UserError):
        raise _no_head("its manifest cannot be read", where) from None
    if version != FORMAT:
        raise _no_head(f"it has the format {version}, and this version reads {FORMAT}", where)
    if digest != taxonomy().digest:
        raise UserError("was fitted on another taxonomy", where=where, mend="Fit it again")
    if not (_fit_together(arrays) and all(0 < delta < 1 for delta in deltas)):
        raise _no_head("its arrays do not fit together", where)
    return Head(
        Features(
            Terms(arrays["terms"], arrays["term_weights"]),
            arrays["landmarks"].astype(np.float32),
        ),
        Weights(
            arrays["bias"],
            arrays["dense"].astype(np.float32),
            arrays["sparse"].astype(np.float32),
        ),
        scalings,
        arrays["seen"],
        arrays["out_of_fold"],
        manifest,
    )


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    where = str(path)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if sum(member.file_size for member in archive.zip.infolist()) > LARGEST:
                raise _no_head(f"it unpacks to over {LARGEST:,} bytes", where)
            held = {name: archive[name] for name in _ARRAYS}
    except FileNotFoundError:
        raise UserError(
            "there is no such file", where=where, mend="Fit one: misalign-bench fit"
        ) from None
    except IsADirectoryError:
        raise UserError("is a folder, not a file", where=where) from None
    except (
        *(ValueError, LookupError, TypeError, AttributeError, EOFError, RuntimeError, SyntaxError),
        *(ArithmeticError, MemoryError, zipfile.BadZipFile, zlib.error),
    ):
        raise _no_head("it is not an archive of its arrays", where) from None
    except OSError as error:
        raise OutsideWorld(f"cannot be read: {error.strerror or error}", where=where) from None
    for name, (kind, axes) in _ARRAYS.items():
        if held[name].dtype != np.dtype(kind) or held[name].ndim != axes:
            raise _no_head(f"its {name} are not {kind}", where)
    return held


def _fit_together(arrays: Mapping[str, npt.NDArray[Any]]) -> bool:
    classes = max(group.stop for group in groups().values())
    terms = arrays["terms"]
    return (
        arrays["bias"].shape == (classes,)
        and arrays["dense"].shape == (sum(arrays["landmarks"].shape), classes)
        and arrays["sparse"].shape == (len(terms), classes)
        and arrays["term_weights"].shape == (len(terms),)
        and arrays["out_of_fold"].shape == (len(arrays["seen"]), len(taxonomy().domains))
        # Beyond these sizes sums of products could leave what a float32 holds.
        and all(
            float(np.abs(arrays[name]).max(initial=0)) <= LARGEST_WEIGHT
            for name in ("bias", "dense", "sparse", "landmarks", "term_weights")
        )
        and all((arrays[name][1:] >= arrays[name][:-1]).all() for name in ("terms", "seen"))
        and bool((arrays["out_of_fold"] <= STEPS).all())
    )


def _no_head(why: str, where: str) -> UserError:
    return UserError(
        f"is no head that can be used: {why}", where=where, mend="Fit one: misalign-bench fit"
    )
