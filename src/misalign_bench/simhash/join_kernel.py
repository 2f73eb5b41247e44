"""The compiled part of the join: sorting codes into buckets, and comparing bucket with bucket.

Eight rows are compared with a run of columns at a time, and only the least distance is kept, which
the compiler turns into vector population counts and minima (measured on one core with AVX-512: 20
to 32 thousand million comparisons a second). The rows of the rare run that holds a near code are
gone through again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from misalign_bench.simhash.fast import compiled, numba

_Array = npt.NDArray[Any]

_U = np.uint64
RUN = 2048
"""Columns in a run: 16 KB, which stay in the first cache."""

ROWS = 8
"""Rows that are compared at a time."""

ROOM = ROWS * RUN
"""The most pairs that one step can add; a result buffer must have this much room left."""


def _population() -> Callable[[Any], Any]:
    """Return a function that counts the set bits of a word in one instruction."""
    compiler = numba()
    if compiler is None:
        return lambda word: int(word).bit_count()
    from importlib import import_module

    word_type = compiler.types.uint64

    def population(_: Any, word: Any) -> Any:
        def code(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
            return builder.ctpop(arguments[0])

        return word_type(word_type), code

    extending = import_module("numba.extending")
    return cast(Callable[[Any], Any], extending.intrinsic(population))


_bits = _population()


@compiled
def sort_into_buckets(
    codes: _Array, shift: np.uint64, last: np.uint64, starts: _Array, order: _Array, by_band: _Array
) -> None:
    """Sort codes by one band, by counting.

    Args:
        codes: the codes.
        shift: position of the band's lowest bit.
        last: the highest value of the band: all its bits set.
        starts: receives where each bucket begins, and the end: last + 2 zeros.
        order: receives the positions of the codes, bucket by bucket.
        by_band: receives the codes in that order.
    """
    for code in codes:
        starts[((code >> shift) & last) + _U(1)] += 1
    for bucket in range(1, starts.size):
        starts[bucket] += starts[bucket - 1]
    for at in range(codes.size):
        bucket = (codes[at] >> shift) & last
        place = starts[bucket]
        starts[bucket] = place + 1
        order[place] = at
        by_band[place] = codes[at]
    for bucket in range(starts.size - 1, 0, -1):
        starts[bucket] = starts[bucket - 1]
    starts[0] = 0


@compiled
def join_rows(
    codes: _Array,
    starts: _Array,
    masks: _Array,
    earlier: _Array,
    tau: np.uint64,
    stop_row: int,
    state: _Array,
    rows: _Array,
    columns: _Array,
    distances: _Array,
) -> int:
    """Find the near pairs of some rows, from where ``state`` says until the buffers are full.

    Args:
        codes: codes sorted into buckets.
        starts: where each bucket begins, and the end.
        masks: bucket k is compared with bucket k ^ mask for each mask.
        earlier: shift, last value and radius of each band whose pairs were reported before.
        tau: the largest distance.
        stop_row: the first row not to compare.
        state: where to go on, and where it went on to: bucket, mask, column, row, first row of
            all. The bucket is ``starts.size`` when nothing is left.
        rows: receives the sorted position of the first code of each pair.
        columns: receives that of the second.
        distances: receives the distances.

    Returns:
        How many pairs were written.
    """
    bucket, at_mask, column, row, first_row = state
    count = 0
    while bucket < starts.size - 1 and starts[bucket] < stop_row:
        first, last = max(starts[bucket], first_row), min(starts[bucket + 1], stop_row)
        while at_mask < masks.size and first < last:
            other = bucket ^ masks[at_mask]
            if other >= bucket:
                begin, end = starts[other], starts[other + 1]
                if column < begin:
                    column, row = begin, first
                while column < end:
                    run_end = min(column + RUN, end)
                    while row < last:
                        row = _next_near(codes, row, last, column, run_end, other == bucket, tau)
                        if row >= last:
                            break
                        if count + ROOM > rows.size:
                            state[:4] = (bucket, at_mask, column, row)
                            return count
                        stop = min(row + ROWS, last)
                        for one in range(row, stop):
                            after = max(column, one + 1) if other == bucket else column
                            if _least(codes, one, one, codes[after:run_end]) <= tau:
                                count = _scan(
                                    codes, one, after, run_end, earlier, tau,
                                    rows, columns, distances, count,
                                )  # fmt: skip
                        row = stop
                    column, row = run_end, first
            column = -1
            at_mask += 1
        at_mask, column = 0, -1
        bucket += 1
    state[0] = starts.size
    return count


@compiled
def _next_near(
    codes: _Array, row: int, last: int, column: int, end: int, same_bucket: bool, tau: np.uint64
) -> int:
    """Return the first row of the next ``ROWS`` that may have a near column, or ``last``."""
    while row < last:
        tail = min(row + ROWS, last) - 1
        begin = column
        if same_bucket:
            # Each pair once: a row meets later columns only, and these rows each other.
            if row >= end:
                return last
            if _near_among(codes, row, tail, tau):
                return row
            begin = max(column, tail + 1)
        if begin < end and _least(codes, row, tail, codes[begin:end]) <= tau:
            return row
        row += ROWS
    return last


@compiled
def _least(codes: _Array, row: int, tail: int, run: _Array) -> Any:
    """Return the least distance between up to eight rows and a run of columns."""
    a, b = codes[row], codes[min(row + 1, tail)]
    c, d = codes[min(row + 2, tail)], codes[min(row + 3, tail)]
    e, f = codes[min(row + 4, tail)], codes[min(row + 5, tail)]
    g, h = codes[min(row + 6, tail)], codes[min(row + 7, tail)]
    least = _U(64)
    for k in range(run.size):
        code = run[k]
        one = min(_bits(a ^ code), _bits(b ^ code), _bits(c ^ code), _bits(d ^ code))
        two = min(_bits(e ^ code), _bits(f ^ code), _bits(g ^ code), _bits(h ^ code))
        least = min(least, one, two)
    return least


@compiled
def _near_among(codes: _Array, row: int, tail: int, tau: np.uint64) -> bool:
    """Say whether two of some neighbouring rows are near each other."""
    for one in range(row, tail):
        for other in range(one + 1, tail + 1):
            if _bits(codes[one] ^ codes[other]) <= tau:
                return True
    return False


@compiled
def _scan(
    codes: _Array,
    row: int,
    column: int,
    end: int,
    earlier: _Array,
    tau: np.uint64,
    rows: _Array,
    columns: _Array,
    distances: _Array,
    count: int,
) -> int:
    """Write the near pairs of one row that no earlier band covers."""
    for other in range(column, end):
        difference = codes[row] ^ codes[other]
        distance = _bits(difference)
        if distance <= tau:
            new = True
            for band in range(earlier.shape[0]):
                part = (difference >> earlier[band, 0]) & earlier[band, 1]
                new = new and _bits(part) > earlier[band, 2]
            if new:
                rows[count], columns[count], distances[count] = row, other, distance
                count += 1
    return count
