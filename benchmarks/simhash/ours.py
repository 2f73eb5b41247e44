"""What this package does on the same tasks, through its public functions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from contender import Contender, Task


def fingerprints(task: Task) -> Iterator[int]:
    """Texts to codes."""
    from misalign_bench.simhash.fingerprint import fingerprint

    yield 0
    task.found.append(fingerprint(task.texts))
    yield len(task.texts)


def join(task: Task) -> Iterator[int]:
    """Codes to all pairs within tau."""
    from misalign_bench.simhash.pairs import near_pairs

    yield 0
    pairs = near_pairs(task.codes, task.tau)
    yield len(task.codes)
    task.keep(pairs.i, pairs.j)


def streamed_join(task: Task) -> Iterator[int]:
    """Codes to all pairs within tau, block by block: the way for very many pairs."""
    from misalign_bench.simhash.pairs import stream_near_pairs

    yield 0
    for pairs in stream_near_pairs(task.codes, task.tau):
        task.found.append(np.stack([pairs.i, pairs.j]).astype(np.int32))
    yield len(task.codes)


def brute_force(task: Task) -> Iterator[int]:
    """Codes to all pairs within tau, with one band of no bits: the package's tiled brute force."""
    from misalign_bench.simhash.bands import brute_force as plan
    from misalign_bench.simhash.pairs import near_pairs

    yield 0
    pairs = near_pairs(task.codes, task.tau, bands=plan(task.tau))
    yield len(task.codes)
    task.keep(pairs.i, pairs.j)


def verified_pairs(task: Task) -> Iterator[int]:
    """Texts to pairs within tau that are at least 0.7 similar: codes, join, exact check."""
    from misalign_bench.simhash.fingerprint import fingerprint
    from misalign_bench.simhash.pairs import near_pairs
    from misalign_bench.simhash.verify import verify_pairs

    yield 0
    pairs = near_pairs(fingerprint(task.texts), task.tau)
    confirmed = verify_pairs(task.texts, pairs.i, pairs.j, 0.7)
    yield len(task.texts)
    task.keep(pairs.i[confirmed], pairs.j[confirmed])


FINGERPRINTS: dict[str, Contender] = {"ours": fingerprints}
JOINS: dict[str, Contender] = {
    "ours": join,
    "ours, streamed": streamed_join,
    "ours by brute force": brute_force,
}
PAIRS: dict[str, Contender] = {"ours, verified": verified_pairs}
