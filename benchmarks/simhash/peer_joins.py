"""Codes to all pairs within tau, as the peers do it. Every one is set up so that it is exact."""

from __future__ import annotations

import importlib
import logging
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from contender import Codes, Contender, Task

BITS = 64


def simhash_index(task: Task) -> Iterator[int]:
    """``simhash`` (1e0n): ``SimhashIndex`` with k = tau, asked for the neighbours of each code."""
    logging.getLogger("simhash").setLevel(logging.CRITICAL)  # a line for each full bucket
    package = importlib.import_module("simhash")
    codes = [package.Simhash(code) for code in task.codes.tolist()]
    index = package.SimhashIndex([(str(k), code) for k, code in enumerate(codes)], k=task.tau)
    yield 0
    for done, rows in task.batches(2):
        for row in rows.tolist():
            near = [int(name) for name in index.get_near_dups(codes[row])]
            task.keep([row] * len(near), near)
        yield done


def text_dedup_loop(task: Task) -> Iterator[int]:
    """text-dedup (Mou 2023, ``text_dedup/simhash.py``): blocks as keys, lists as buckets.

    The loop's shape, in own words: tau + 1 blocks, so at least one is equal in any pair within
    tau; a code looks into the bucket of each of its blocks, compares itself as a bit array with
    each code there that it has not met yet, and then joins the buckets. Only codes before it are
    there, so on average the buckets are half full: here they are full, and each row counts half.
    """
    task.weight = 0.5
    frozen = importlib.import_module("bitarray").frozenbitarray
    bits = [frozen(buffer=code.tobytes()) for code in task.codes.astype(">u8")]
    blocks = _blocks(task.tau + 1)
    buckets: dict[tuple[int, bytes], list[tuple[int, Any]]] = defaultdict(list)

    def keys(bit: Any) -> list[tuple[int, bytes]]:
        return [(k, bit[block].tobytes()) for k, block in enumerate(blocks)]

    for row, bit in enumerate(bits):
        for key in keys(bit):
            buckets[key].append((row, bit))
    yield 0
    for done, rows in task.batches(10):
        for row in rows.tolist():
            bit = bits[row]
            near: set[int] = set()
            for key in keys(bit):
                for other, other_bit in buckets[key]:
                    if other in near:
                        continue
                    if (bit ^ other_bit).count(1) <= task.tau:
                        near.add(other)
            task.keep([row] * len(near), list(near))
        yield done


def faiss_flat(task: Task) -> Iterator[int]:
    """faiss: ``IndexBinaryFlat.range_search``, each code against all."""
    index = importlib.import_module("faiss").IndexBinaryFlat(BITS)
    yield from _faiss(task, index, 1024)


def faiss_multi_hash(task: Task) -> Iterator[int]:
    """faiss: ``IndexBinaryMultiHash`` with 4 hashes of 16 bits and up to 2 flips in each.

    Two codes at most 10 bits apart differ in at most 2 bits in one of 4 blocks, so this is exact
    up to tau 11.
    """
    index = importlib.import_module("faiss").IndexBinaryMultiHash(BITS, 4, BITS // 4)
    index.nflip = task.tau // 4
    yield from _faiss(task, index, 1024)


def _faiss(task: Task, index: Any, batch: int) -> Iterator[int]:
    table = _bytes(task.codes)
    index.add(table)
    yield 0
    for done, rows in task.batches(batch):
        # faiss takes the distances below its radius.
        limits, _, near = index.range_search(table[rows], task.tau + 1)
        task.keep(np.repeat(rows, np.diff(limits.astype(np.int64))), near)
        yield done


def _bytes(codes: Codes) -> Any:
    return codes.view(np.uint8).reshape(-1, BITS // 8)


def _blocks(count: int) -> list[slice]:
    """Cut the bits into blocks that differ by at most one bit in their width."""
    ends = [BITS * k // count for k in range(count + 1)]
    return [slice(ends[k], ends[k + 1]) for k in range(count)]


CONTENDERS: dict[str, Contender] = {
    "SimhashIndex": simhash_index,
    "text-dedup's loop": text_dedup_loop,
    "faiss BinaryFlat": faiss_flat,
    "faiss BinaryMultiHash": faiss_multi_hash,
}
