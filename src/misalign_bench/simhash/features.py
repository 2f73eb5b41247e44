"""What of a normalised text is hashed: its features, which a code is the majority of.

The default, the set of character 4-grams, is what the project uses. The others reproduce published
set-ups: character n-grams of other sizes, word 1-, 2- and 3-grams, and term-frequency weights,
under which a feature counts as often as it occurs. A name says which: ``char-4``, ``word-2``,
``word-1-tf``.

Hashes are 64-bit, from the SplitMix64 finaliser ``mix`` (Steele, Lea, Flood 2014, *Fast Splittable
Pseudorandom Number Generators*) and ``SEED``:

- A character n-gram is packed two code points to a word (21 bits each; the last may hold one), and
  the words are folded in: ``state = mix(state ^ word)``, from ``state = SEED``.
- A word hashes to ``mix`` of the sum, modulo 2^64, of ``mix(code point | position << 21 ^ SEED)``
  over its characters; a word n-gram folds in its words' hashes as above. Words are what single
  spaces separate in a normalised text.

A text shorter than the n-gram has one feature: all of it. Characters are filled up with code point
0; fewer words are folded in as they are. An empty text has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Owners = npt.NDArray[np.intp]

SEED = 0x5361566143753634
"""The published seed: the eight ASCII characters ``SaVaCu64``, most significant first."""

LONGEST = {"char": 16, "word": 3}
_SPACE = 32
_POINT_BITS = np.uint64(21)


@dataclass(frozen=True, slots=True)
class Features:
    """Which features a code is made of.

    Attributes:
        unit: what an n-gram is a run of.
        size: how many of them, 1 to 16 characters or 1 to 3 words.
        weights: ``set``: a feature counts once a text; ``tf``: as often as it occurs.
    """

    unit: Literal["char", "word"] = "char"
    size: int = 4
    weights: Literal["set", "tf"] = "set"

    def __post_init__(self) -> None:
        """Refuse sizes out of range."""
        if not 1 <= self.size <= LONGEST[self.unit]:
            raise ValueError(
                f"features are {self}, but {self.unit} n-grams have 1 to {LONGEST[self.unit]}"
            )

    def __str__(self) -> str:
        """Return the name that ``parse_features`` reads."""
        return f"{self.unit}-{self.size}" + ("-tf" if self.weights == "tf" else "")


DEFAULT = Features()


def parse_features(name: str) -> Features:
    """Return the features of a name such as ``char-4``, ``word-2`` or ``word-1-tf``.

    >>> parse_features("word-2-tf")
    Features(unit='word', size=2, weights='tf')
    """
    unit, _, rest = name.partition("-")
    size, dash, weights = rest.partition("-")
    known = size.isascii() and size.isdigit() and len(size) <= 2
    if unit not in ("char", "word") or not known or (dash and weights not in ("set", "tf")):
        raise ValueError(
            f"features are '{name}', but must be named like char-4, word-2 or word-1-tf"
        )
    return Features(
        "char" if unit == "char" else "word", int(size), "tf" if weights == "tf" else "set"
    )


def hash_features(normals: Sequence[str], features: Features) -> tuple[Owners, Words]:
    """Return every feature of normalised texts, none of them empty: its text and its hash.

    Texts come in order; under ``set`` a feature appears once for each of its texts.
    """
    if features.unit == "char":
        owner, hashes = _characters(normals, features.size)
    else:
        owner, hashes = _words(normals, features.size)
    if features.weights == "tf":
        return owner, hashes
    once = _first_occurrences(owner, hashes)
    return owner[once], hashes[once]


def code_points(texts: Sequence[str]) -> npt.NDArray[np.uint32]:
    """Return the code points of texts, one after the other, lone surrogates included."""
    return np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype="<u4")


def mix(words: Words) -> Words:
    """Return SplitMix64's output for each word as its state."""
    mixed: Words = words + np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def _characters(normals: Sequence[str], size: int) -> tuple[Owners, Words]:
    padded = [normal.ljust(size, "\0") for normal in normals]
    lengths = np.array([len(text) for text in padded])
    points = code_points(padded).astype(np.uint64)
    windows = len(points) - size + 1
    state: Words = np.full(windows, SEED, dtype=np.uint64)
    for at in range(0, size, 2):
        word = points[at : at + windows]
        if at + 1 < size:
            word = word | (points[at + 1 : at + 1 + windows] << _POINT_BITS)
        state = mix(state ^ word)
    inside = _windows_inside(lengths, size)
    return np.repeat(np.arange(len(normals)), lengths - size + 1), state[inside]


def _words(normals: Sequence[str], size: int) -> tuple[Owners, Words]:
    # One space before each text makes a space the start of every word, the first included.
    points = code_points([" " + normal for normal in normals]).astype(np.uint64)
    spaces = points == _SPACE
    starts = np.flatnonzero(spaces)
    position = np.arange(len(points)) - np.repeat(starts, np.diff(starts, append=len(points))) - 1
    letters = mix((points | (position.astype(np.uint64) << _POINT_BITS)) ^ np.uint64(SEED))
    letters[spaces] = 0
    hashes = mix(np.add.reduceat(letters, starts))
    lengths = np.array([normal.count(" ") + 1 for normal in normals])
    owner = np.repeat(np.arange(len(normals)), lengths)
    state = np.full(len(hashes), SEED, dtype=np.uint64)
    first = np.concatenate(([0], np.cumsum(lengths)[:-1]))
    last = np.repeat(first + lengths, lengths)
    here = np.arange(len(hashes))
    for at in range(size):
        reaches = here + at < last
        state[reaches] = mix(state[reaches] ^ hashes[(here + at)[reaches]])
    whole = here + size <= last
    whole[first] = True
    return owner[whole], state[whole]


def _windows_inside(lengths: npt.NDArray[np.intp], size: int) -> npt.NDArray[np.bool_]:
    """Mark the windows of joined texts that lie in one text."""
    inside = np.ones(int(lengths.sum()) - size + 1, dtype=bool)
    borders = np.cumsum(lengths)[:-1]
    for reach in range(1, size):
        inside[borders - reach] = False
    return inside


def _first_occurrences(owner: Owners, hashes: Words) -> npt.NDArray[np.bool_]:
    """Mark each hash that its text has not shown before.

    A stable sort by hash keeps the texts in order within equal hashes, so that the repetitions of
    one text stand side by side.
    """
    order = np.argsort(hashes, kind="stable")
    by_hash, by_owner = hashes[order], owner[order]
    repeated = (by_hash[1:] == by_hash[:-1]) & (by_owner[1:] == by_owner[:-1])
    once = np.ones(len(hashes), dtype=bool)
    once[order[1:][repeated]] = False
    return once
