"""From a text to its 64-bit SimHash code (paper: Stage I, step 3, deduplication by SimHash).

Charikar 2002, *Similarity Estimation Techniques from Rounding Algorithms*: every feature of a text
has a fixed 64-bit hash; bit b of the code says whether more features have bit b set than not.
Texts that share most features then differ in few bits.

The rules, which together fix every code (tests hold golden values):

1. The text is normalised (see ``normalise``).
2. Its features are hashed (see ``features``); by default the *set* of its character 4-grams: a
   4-gram that occurs twice counts once. A normalised text of one to three characters has one
   feature, itself. An empty one has none.
3. A bit is 1 if more than half of the features have it; a tie is 0. So an empty text has code 0.

The code is the same on every machine, with every NumPy, and with or without the extra ``fast``.
Python's Unicode tables grow with its version: a text with characters that Unicode 13 (Python 3.10)
did not know yet may be normalised differently by an older interpreter; all others are the same on
every version.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from misalign_bench.simhash.fast import use_kernels
from misalign_bench.simhash.features import (
    DEFAULT,
    Features,
    Owners,
    Words,
    code_points,
    hash_features,
    parse_features,
)

Codes = npt.NDArray[np.uint64]

CHUNK_CHARACTERS = 1 << 18
"""Texts are hashed in batches of about this many characters, so memory does not grow with N."""

_NOT_WORD = re.compile(r"\W+")
_LANES = np.uint64(0x0000000100000001)
_ASCII_WORDS = bytes(
    ord(chr(byte).lower()) if chr(byte).isalnum() or byte == ord("_") else ord(" ")
    for byte in range(128)
) + bytes(128)


def fingerprint(texts: Sequence[str], features: Features | str = DEFAULT) -> Codes:
    """Return the SimHash code of every text.

    Args:
        texts: any strings, empty ones and ones with lone surrogates included.
        features: what is hashed, or its name, such as ``word-2-tf``.

    Returns:
        One unsigned 64-bit code per text, in order.

    >>> [hex(code) for code in fingerprint(["How do I boil an egg?", "how do i boil an EGG", ""])]
    ['0xe9e0855d05aa1b04', '0xe9e0855d05aa1b04', '0x0']
    """
    if isinstance(texts, str):
        raise TypeError("fingerprint takes a sequence of texts, not one text")
    return _codes(texts, features, already_normal=False)


def fingerprint_normalised(normals: Sequence[str], features: Features | str = DEFAULT) -> Codes:
    """Return the codes of texts that ``normalise`` returned, without normalising them again."""
    return _codes(normals, features, already_normal=True)


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
        words = text.encode("ascii").translate(_ASCII_WORDS).decode("ascii").split()
        return " ".join(words or text.split())
    lowered = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    return _NOT_WORD.sub(" ", lowered).strip() or " ".join(lowered.split())


def _codes(texts: Sequence[str], named: Features | str, *, already_normal: bool) -> Codes:
    features = parse_features(named) if isinstance(named, str) else named
    codes = np.zeros(len(texts), dtype=np.uint64)
    of_chunk = _codes_by_kernel if use_kernels(len(texts)) else _codes_by_numpy
    for start, chunk in _chunks(texts):
        of_chunk(chunk, features, already_normal, codes[start : start + len(chunk)])
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


def _codes_by_kernel(
    texts: list[str], features: Features, already_normal: bool, codes: Codes
) -> None:
    """Let the kernels hash a chunk; they also normalise ASCII, which most texts are."""
    from misalign_bench.simhash.fingerprint_kernel import codes_of

    rules = (features.unit == "word", features.size, features.weights == "set")
    joined = "".join(texts)
    if joined.isascii():
        # What is normal already is normalised to itself.
        letters = np.frombuffer(joined.encode("ascii"), dtype=np.uint8)
        codes_of(letters, _lengths(texts), True, *rules, codes)
        return
    ascii_only = np.fromiter(map(str.isascii, texts), dtype=bool, count=len(texts))
    some = codes[ascii_only]
    plain = [text for text in texts if text.isascii()]
    letters = np.frombuffer("".join(plain).encode("ascii"), dtype=np.uint8)
    codes_of(letters, _lengths(plain), True, *rules, some)
    codes[ascii_only] = some
    others = [text for text in texts if not text.isascii()]
    normals = others if already_normal else [normalise(text) for text in others]
    rest = codes[~ascii_only]
    codes_of(code_points(normals), _lengths(normals), False, *rules, rest)
    codes[~ascii_only] = rest


def _lengths(texts: list[str]) -> npt.NDArray[np.int64]:
    return np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))


def _codes_by_numpy(
    texts: list[str], features: Features, already_normal: bool, codes: Codes
) -> None:
    normals = texts if already_normal else [normalise(text) for text in texts]
    filled = np.flatnonzero([bool(normal) for normal in normals])
    if filled.size:
        owner, hashes = hash_features([normals[k] for k in filled], features)
        codes[filled] = _majority(owner, hashes, len(filled))


def _majority(owner: Owners, hashes: Words, texts: int) -> Codes:
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
