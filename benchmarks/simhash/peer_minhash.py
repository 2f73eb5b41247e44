"""Texts to pairs that are probably 0.7 similar, by MinHash and locality-sensitive hashing.

That is another method than SimHash: it aims at the Jaccard similarity itself, with a sketch of 512
bytes a text instead of 8, and its pairs are candidates too, some of them wrong.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator

from contender import Contender, Task
from peer_fingerprints import grams


def datasketch_lsh(task: Task) -> Iterator[int]:
    """datasketch: MinHashLSH at 0.7 over 128 permutations, from the texts."""
    package = importlib.import_module("datasketch")
    sketches = package.MinHash.bulk(
        ([gram.encode() for gram in grams(text)] for text in task.texts), num_perm=128
    )
    index = package.MinHashLSH(threshold=0.7, num_perm=128)
    for row, sketch in enumerate(sketches):
        index.insert(row, sketch, check_duplication=False)
    yield 0
    for done, rows in task.batches(200):
        for row in rows.tolist():
            near = index.query(sketches[row])
            task.keep([row] * len(near), near)
        yield done


def rensa_lsh(task: Task) -> Iterator[int]:
    """rensa: RMinHashLSH at 0.7 with 16 bands over 128 permutations, from the texts."""
    package = importlib.import_module("rensa")
    sketches = package.RMinHash.from_token_sets([list(grams(t)) for t in task.texts], 128, 42)
    index = package.RMinHashLSH(0.7, 128, 16)
    index.insert_many(sketches)
    yield 0
    for done, rows in task.batches(200):
        for row, near in zip(
            rows.tolist(), index.query_all([sketches[row] for row in rows]), strict=True
        ):
            task.keep([row] * len(near), near)
        yield done


CONTENDERS: dict[str, Contender] = {
    "datasketch MinHashLSH": datasketch_lsh,
    "rensa RMinHashLSH": rensa_lsh,
}
