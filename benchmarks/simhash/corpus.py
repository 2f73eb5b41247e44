"""The texts and codes that every contender gets: the published prompts, and generated ones.

Generated prompts have an opening that is common in prompts and words of a made-up vocabulary with
Zipf's frequencies; every twentieth is an edit of the one before it. At every size above that of
the published prompts, one code in a hundred is then replaced by another one with 0 to 10 bits
flipped: pairs that any exact join must find, however many codes there are.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from contender import Codes, Rows

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data" / "savacu_classified_prompts.csv"
CHUNK = 100_000
TAU = 10
_VERBS = ["Write", "Create", "Explain", "Describe", "Suggest", "Compare", "List", "Draft", "Plan"]
_OBJECTS = [
    "a short story about",
    "the main reasons for",
    "an email to a customer who asked for",
    "ten ideas for",
    "the difference between",
    "a marketing plan for",
    "the history of",
    "a poem in the style of",
    "the steps that are needed for",
    "a script in Python for",
    "a speech on",
    "questions for a survey on",
]


def published() -> list[str]:
    """Return the published prompts, or none where they are not beside the project."""
    if not SHARED.exists():
        return []
    with SHARED.open(encoding="utf-8", newline="") as file:
        return [row["prompt"] for row in csv.DictReader(file)]


def generated(count: int, seed: int) -> Iterator[list[str]]:
    """Yield generated prompts in chunks."""
    random = np.random.default_rng(seed)
    words = _vocabulary(np.random.default_rng(0))
    steps = np.cumsum(1 / (np.arange(len(words)) + 20.0))
    for start in range(0, count, CHUNK):
        yield _chunk(random, words, steps / steps[-1], min(CHUNK, count - start))


def texts(count: int) -> list[str]:
    """Return so many texts: the published ones first, then generated ones."""
    found = published()[:count]
    for chunk in generated(count - len(found), seed=1):
        found += chunk
    return found


def uniform(count: int) -> Codes:
    """Return random codes, all 64 bits independent: none is near another but by chance."""
    return np.random.default_rng(3).integers(0, 2**64, count, dtype=np.uint64)


def with_planted(codes: Codes, first: int, seed: int = 2) -> tuple[Codes, Rows, Rows]:
    """Overwrite one code in a hundred, from position ``first`` on, with a near copy of another.

    Returns:
        The codes, and the two columns of the planted pairs: copy and original.
    """
    random = np.random.default_rng(seed)
    count = (len(codes) - first) // 100
    places = first + random.choice(len(codes) - first, 2 * count, replace=False)
    copies, originals = places[:count], places[count:]
    flips = np.zeros(count, dtype=np.uint64)
    order = np.argsort(random.random((count, 64), dtype=np.float32), axis=1)[:, :TAU]
    wanted = np.arange(count) % (TAU + 1)
    for k in range(TAU):
        bit = np.uint64(1) << order[:, k].astype(np.uint64)
        flips |= np.where(k < wanted, bit, np.uint64(0))
    planted = codes.copy()
    planted[copies] = planted[originals] ^ flips
    return planted, copies.astype(np.int64), originals.astype(np.int64)


def _vocabulary(random: np.random.Generator) -> list[str]:
    """Return 20,000 made-up words of one to three syllables."""
    starts = [*"bcdfghjklmnprstvw", "br", "ch", "cl", "dr", "gr", "pl", "sh", "sp", "st", "th"]
    middles = [*"aeiou", "ai", "ea", "ie", "oo", "ou"]
    ends = ["", "", "", "n", "r", "s", "t", "l", "m", "ck", "nd", "ng", "st"]
    found: dict[str, None] = {}
    while len(found) < 20_000:
        word = ""
        for _ in range(int(random.integers(1, 4))):
            parts = (starts, middles, ends)
            word += "".join(part[int(random.integers(len(part)))] for part in parts)
        found[word] = None
    return list(found)


def _chunk(
    random: np.random.Generator, words: list[str], shares: npt.NDArray[np.float64], count: int
) -> list[str]:
    lengths = random.lognormal(2.3, 0.6, count).astype(int) + 5
    borders = np.concatenate(([0], np.cumsum(lengths))).tolist()
    ids = np.searchsorted(shares, random.random(borders[-1])).tolist()
    verbs = random.integers(0, len(_VERBS), count).tolist()
    objects = random.integers(0, len(_OBJECTS), count).tolist()
    drawn = [words[k] for k in ids]
    made: list[str] = []
    for k in range(count):
        if k % 20 == 19:
            made.append(_edited(made[-1], drawn[borders[k]]))
        else:
            body = " ".join(drawn[borders[k] : borders[k + 1]])
            made.append(f"{_VERBS[verbs[k]]} {_OBJECTS[objects[k]]} {body}.")
    return made


def _edited(text: str, word: str) -> str:
    """Put another word in the place of the middle one."""
    parts = text.split(" ")
    parts[len(parts) // 2] = word
    return " ".join(parts)
