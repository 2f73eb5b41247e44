"""Texts to 64-bit codes, as the peers do it, each with its own cleaning and character 4-grams."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator

import numpy as np
from contender import Contender, Task

STEP = 500
_NOT_WORD = re.compile(r"\W+")


def simhash_package(task: Task) -> Iterator[int]:
    """``simhash`` (1e0n): ``Simhash(text)``, whose default features are 4-grams with tf weights."""
    make = importlib.import_module("simhash").Simhash
    yield 0
    for done, rows in task.batches(STEP):
        task.found.append([make(task.texts[row]).value for row in rows.tolist()])
        yield done


def text_dedup_loop(task: Task) -> Iterator[int]:
    """text-dedup (Mou 2023, ``text_dedup/simhash.py``): the set of n-grams, a bit array for each.

    Same steps, own words: hash each n-gram's bytes with xxh3, unpack the hash into a list of bits,
    stack the lists, and compare each column's sum with half.
    """
    xxhash = importlib.import_module("xxhash")
    bits = importlib.import_module("bitarray").bitarray
    yield 0
    for done, rows in task.batches(STEP):
        for row in rows.tolist():
            text = task.texts[row].lower()
            tokens = {text[k : k + 4].encode() for k in range(max(1, len(text) - 3))}
            table = np.asarray(
                [bits(buffer=xxhash.xxh3_64_digest(token)).tolist() for token in tokens], dtype=int
            )
            task.found.append(bits(((2 * table - 1).sum(axis=0) > 0).tolist()).tobytes())
        yield done


def datasketch_minhash(task: Task) -> Iterator[int]:
    """datasketch: a MinHash of 128 permutations, which is another sketch, 512 bytes long."""
    minhash = importlib.import_module("datasketch").MinHash
    yield 0
    for done, rows in task.batches(STEP):
        sets = ([gram.encode() for gram in grams(task.texts[row])] for row in rows.tolist())
        task.found.append(minhash.bulk(sets, num_perm=128))
        yield done


def rensa_minhash(task: Task) -> Iterator[int]:
    """Rensa (Rust): R-MinHash of 128 permutations."""
    minhash = importlib.import_module("rensa").RMinHash
    yield 0
    for done, rows in task.batches(STEP):
        sets = [list(grams(task.texts[row])) for row in rows.tolist()]
        task.found.append(minhash.from_token_sets(sets, 128, 42))
        yield done


def grams(text: str) -> set[str]:
    """Return the set of character 4-grams, after the same plain cleaning for every MinHash."""
    clean = _NOT_WORD.sub(" ", text.lower()).strip()
    return {clean[k : k + 4] for k in range(max(1, len(clean) - 3))}


CONTENDERS: dict[str, Contender] = {
    "simhash": simhash_package,
    "text-dedup's loop": text_dedup_loop,
    "datasketch MinHash, 128": datasketch_minhash,
    "rensa R-MinHash, 128": rensa_minhash,
}
