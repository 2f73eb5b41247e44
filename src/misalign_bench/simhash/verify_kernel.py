"""The compiled path of ``verify``: exact Jaccard similarities of many pairs of texts.

A pair is decided with two open-addressing tables: one holds the 4-grams of the first text, and
stays for the next pair with the same first text; the other holds those of the second, so that a
4-gram that occurs twice counts once. A slot belongs to the set whose stamp it carries, so starting
a new set clears nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from misalign_bench.simhash.fast import compiled

_Array = npt.NDArray[Any]

_U = np.uint64
_POINT = _U(16)
_SPREAD = _U(0x9E3779B97F4A7C15)
_GRAM = 4


@compiled
def similarities(points: _Array, ends: _Array, i: _Array, j: _Array, scores: _Array) -> None:
    """Write the similarity of each pair, or -1 where a text is not for this kernel.

    Args:
        points: the code points of all texts, one after the other.
        ends: where each text ends.
        i: the first text of each pair.
        j: the second.
        scores: receives the similarities.
    """
    size = _table_size(ends)
    shift = _U(64)
    while _U(1) << (_U(64) - shift) < _U(size):
        shift -= _U(1)
    first_keys, first_stamps = np.empty(size, dtype=np.uint64), np.zeros(size, dtype=np.int64)
    second_keys, second_stamps = np.empty(size, dtype=np.uint64), np.zeros(size, dtype=np.int64)
    stamp, held, first_stamp, count_first = 0, -1, 0, 0
    for pair in range(i.size):
        a, b = i[pair], j[pair]
        scores[pair] = -1.0
        if not (_is_packable(points, ends, a) and _is_packable(points, ends, b)):
            continue
        if a != held:
            stamp += 1
            held, first_stamp, count_first = a, stamp, 0
            for at in range(_begin(ends, a), ends[a] - _GRAM + 1):
                key = _pack(points, at)
                slot = _slot(first_keys, first_stamps, stamp, key, shift)
                if first_stamps[slot] != stamp:
                    first_keys[slot], first_stamps[slot] = key, stamp
                    count_first += 1
        stamp += 1
        count_second, shared = 0, 0
        for at in range(_begin(ends, b), ends[b] - _GRAM + 1):
            key = _pack(points, at)
            slot = _slot(second_keys, second_stamps, stamp, key, shift)
            if second_stamps[slot] != stamp:
                second_keys[slot], second_stamps[slot] = key, stamp
                count_second += 1
                slot = _slot(first_keys, first_stamps, first_stamp, key, shift)
                shared += first_stamps[slot] == first_stamp
        scores[pair] = shared / (count_first + count_second - shared)


@compiled
def _begin(ends: _Array, text: int) -> int:
    return ends[text - 1] if text > 0 else 0


@compiled
def _table_size(ends: _Array) -> int:
    """Return a power of two that is twice the longest text."""
    size = 16
    for text in range(ends.size):
        while size < 2 * (ends[text] - _begin(ends, text)):
            size *= 2
    return size


@compiled
def _is_packable(points: _Array, ends: _Array, text: int) -> bool:
    """Say whether every 4-gram of a text fits in 64 bits, and it has one."""
    begin = _begin(ends, text)
    highest = np.uint32(0)
    for at in range(begin, ends[text]):
        highest = max(highest, points[at])
    return bool(ends[text] - begin >= _GRAM and highest < 1 << 16)


@compiled
def _pack(points: _Array, at: int) -> Any:
    low = _U(points[at]) | (_U(points[at + 1]) << _POINT)
    high = _U(points[at + 2]) | (_U(points[at + 3]) << _POINT)
    return low | (high << _U(32))


@compiled
def _slot(keys: _Array, stamps: _Array, stamp: int, key: np.uint64, shift: np.uint64) -> int:
    """Return the slot that holds the key, or the free one where it belongs."""
    slot: Any = np.int64((key * _SPREAD) >> shift)
    while stamps[slot] == stamp and keys[slot] != key:
        slot += 1
        if slot == keys.size:
            slot = 0
    return int(slot)
