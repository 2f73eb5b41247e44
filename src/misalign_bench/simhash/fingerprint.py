"""From a text to its 64-bit SimHash code (paper: Stage I, step 3, deduplication by SimHash).

Charikar 2002, *Similarity Estimation Techniques from Rounding Algorithms*: every feature of a text
has a fixed 64-bit hash; bit b of the code says whether more features have bit b set than not.
Texts that share most features then differ in few bits.

The rules, which together fix every code (tests hold golden values):

1. The text is normalised (see ``normalise``).
2. Its features are the *set* of its character 4-grams: a 4-gram that occurs twice counts once. A
   normalised text of one to three characters has one feature, itself, filled up with code point
   0. An empty one has none.
3. A feature's hash is two rounds of the SplitMix64 finaliser (Steele, Lea, Flood 2014, *Fast
   Splittable Pseudorandom Number Generators*) over its four code points and ``SEED``.
4. A bit is 1 if more than half of the features have it; a tie is 0. So an empty text has code 0.

The code is the same on every machine and with every NumPy. Python's Unicode tables grow with its
version: a text with characters that Unicode 13 (Python 3.10) did not know yet may be normalised
differently by an older interpreter; all others are the same on every version.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint64]

SEED = 0x5361566143753634
"""The published seed: the eight ASCII characters ``SaVaCu64``, most significant first."""

GRAM = 4
"""Characters in a feature."""

CHUNK_CHARACTERS = 1 << 18
"""Texts are hashed in batches of about this many characters, so memory does not grow with N."""

_NOT_WORD = re.compile(r"\W+")
_LANES = np.uint64(0x0000000100000001)


def fingerprint(texts: Sequence[str]) -> Codes:
    """Return the SimHash code of every text.

    Args:
        texts: any strings, empty ones and ones with lone surrogates included.

    Returns:
        One unsigned 64-bit code per text, in order.

    >>> [hex(code) for code in fingerprint(["How do I boil an egg?", "how do i boil an EGG", ""])]
    ['0xe9e0855d05aa1b04', '0xe9e0855d05aa1b04', '0x0']
    """
    if isinstance(texts, str):
        raise TypeError("fingerprint takes a sequence of texts, not one text")
    return _codes(texts, already_normal=False)


def fingerprint_normalised(normals: Sequence[str]) -> Codes:
    """Return the codes of texts that ``normalise`` returned, without normalising them again."""
    return _codes(normals, already_normal=True)


def normalise(text: str) -> str:
    r"""Return the form in which texts are compared.

    Lower case; compatibility characters and accents composed (NFKC, before and after lowering,
    because each can undo the other); each run of characters that are not word characters (``\W``:
    not a letter, a number or an underscore) becomes one space; none at the ends. A text without
    any word character keeps its signs, and only its white space is reduced to single spaces.

    What this cannot tell apart: "C++" and "C#", "2+2" and "2-2". Combining marks that do not
    compose are not word characters either, which coarsens, for example, Devanagari.

    >>> normalise("  Ｗｈａｔ's THE plan -- for <product/service>?")
    'what s the plan for product service'
    >>> normalise(" ?!  ")
    '?!'
    """
    if text.isascii():
        lowered = text.lower()
    else:
        lowered = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    return _NOT_WORD.sub(" ", lowered).strip() or " ".join(lowered.split())


def _codes(texts: Sequence[str], *, already_normal: bool) -> Codes:
    codes = np.zeros(len(texts), dtype=np.uint64)
    for start, chunk in _chunks(texts):
        normals = chunk if already_normal else [normalise(text) for text in chunk]
        filled = np.flatnonzero([bool(normal) for normal in normals])
        if filled.size:
            codes[start + filled] = _codes_of_filled([normals[k] for k in filled])
    return codes


def _chunks(texts: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Cut the texts into runs of about ``CHUNK_CHARACTERS``, each with the index of its first."""
    chunk: list[str] = []
    start = size = 0
    for index, text in enumerate(texts):
        chunk.append(text)
        size += len(text)
        if size >= CHUNK_CHARACTERS or len(chunk) >= CHUNK_CHARACTERS:
            yield start, chunk
            start, size, chunk = index + 1, 0, []
    if chunk:
        yield start, chunk


def _codes_of_filled(normals: list[str]) -> Codes:
    """Return the codes of normalised texts, none of which is empty."""
    padded = [normal.ljust(GRAM, "\0") for normal in normals]
    lengths = np.array([len(text) for text in padded])
    points = np.frombuffer(
        "".join(padded).encode("utf-32-le", "surrogatepass"), dtype="<u4"
    ).astype(np.uint64)
    inside = np.ones(len(points) - GRAM + 1, dtype=bool)
    borders = np.cumsum(lengths)[:-1]
    for reach in range(1, GRAM):
        inside[borders - reach] = False
    hashes = _hash_grams(points)[inside]
    owner = np.repeat(np.arange(len(normals)), lengths - GRAM + 1)
    once = _first_occurrences(owner, hashes)
    return _majority(owner[once], hashes[once], len(normals))


def _hash_grams(points: Codes) -> Codes:
    """Return the hash of each window of four code points (21 bits each, so two to a word)."""
    twos = points[:-1] | (points[1:] << np.uint64(21))
    return _mix(_mix(twos[:-2] ^ np.uint64(SEED)) ^ twos[2:])


def _mix(words: Codes) -> Codes:
    """Return SplitMix64's output for each word as its state."""
    mixed: Codes = words + np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def _first_occurrences(owner: npt.NDArray[np.intp], hashes: Codes) -> npt.NDArray[np.bool_]:
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


def _majority(owner: npt.NDArray[np.intp], hashes: Codes, texts: int) -> Codes:
    """Return for each text the word of bits that more than half of its hashes have set.

    Two bits, k and k + 32, are counted in one pass, in the two halves of a 64-bit sum.
    """
    counts = np.bincount(owner, minlength=texts).astype(np.uint64)
    starts = np.concatenate(([0], np.cumsum(counts)[:-1])).astype(np.intp)
    codes = np.zeros(texts, dtype=np.uint64)
    for bit in range(32):
        sums = np.add.reduceat((hashes >> np.uint64(bit)) & _LANES, starts)
        low, high = sums & np.uint64(0xFFFFFFFF), sums >> np.uint64(32)
        codes |= (low * np.uint64(2) > counts).astype(np.uint64) << np.uint64(bit)
        codes |= (high * np.uint64(2) > counts).astype(np.uint64) << np.uint64(bit + 32)
    return codes
