"""The input files of one size, made once and read by every contender."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import corpus
import numpy as np
from contender import Codes, Rows

from misalign_bench.simhash.fingerprint import fingerprint

MOST_TEXTS = 1_000_000
"""Above this many, texts are made, hashed and forgotten in chunks: only codes are compared."""


@dataclass(frozen=True)
class Inputs:
    """Where the input is, and what is known about it.

    Attributes:
        size: how many texts or codes.
        texts: a JSON list, missing above ``MOST_TEXTS``.
        codes: an array file.
        planted: pairs of positions that are within tau by construction, in two rows.
        uniform: an array file of as many random codes, with as many planted pairs.
        uniform_planted: those.
    """

    size: int
    texts: Path
    codes: Path
    planted: Rows
    uniform: Path
    uniform_planted: Rows


def prepare(folder: Path, size: int) -> Inputs:
    """Write the texts and codes of a size. The smallest is that of the published prompts."""
    folder.mkdir()
    published = corpus.published()
    texts, codes = folder / "texts.json", folder / "codes.npy"
    if published and size <= len(published):
        size = len(published)
    if size > MOST_TEXTS:
        made = _codes_of_chunks(published, size)
    else:
        listed = corpus.texts(size)
        texts.write_text(json.dumps(listed), encoding="utf-8")
        made = fingerprint(listed)
    planted = np.zeros((2, 0), dtype=np.int64)
    if size > len(published):
        made, copies, originals = corpus.with_planted(made, first=len(published))
        planted = np.stack([copies, originals])
    np.save(codes, made)
    uniform = folder / "uniform.npy"
    random, *pairs = corpus.with_planted(corpus.uniform(size), first=0)
    np.save(uniform, random)
    return Inputs(size, texts, codes, planted, uniform, np.stack(pairs))


def _codes_of_chunks(published: list[str], size: int) -> Codes:
    chunks = [fingerprint(published)]
    chunks += [fingerprint(chunk) for chunk in corpus.generated(size - len(published), seed=1)]
    return np.concatenate(chunks)
