"""A brute force apart from the package: every code with every later one. It is the truth.

Written apart from the package, so that it shares no mistake with it. Four rows are compared with a
run of columns at a time and only the least distance is kept; where that is near enough, the run is
looked at again, pair by pair. Rows are taken from both ends inwards, so every step costs the same.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from contender import Contender, Task

ROWS = 256
COLUMNS = 1024


def brute_force(task: Task) -> Iterator[int]:
    """Compare all pairs, with Numba where it is installed."""
    near: Callable[..., Any] = _numba_rows() or _numpy_rows
    codes, size = np.ascontiguousarray(task.codes), len(task.codes)
    middle = (size + 1) // 2
    # The first rows have the most later codes, the last ones the fewest: taken together.
    halves = [
        [(start, stop), (max(middle, size - stop), size - start)]
        for start, stop in ((row, min(row + ROWS, middle)) for row in range(0, middle, ROWS))
    ]
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield 0
    done = 0
    with ThreadPoolExecutor(threads) as pool:
        for k in range(0, len(halves), 8):
            spans = [span for both in halves[k : k + 8] for span in both]
            for pairs in pool.map(lambda span: near(codes, *span, task.tau), spans):
                task.keep(pairs[0], pairs[1])
            done = min(size, done + 2 * 8 * ROWS)
            yield done


def _numpy_rows(codes: Any, start: int, stop: int, tau: int) -> Any:
    """Return the pairs of rows ``start`` to ``stop`` with later codes."""
    found = []
    for row in range(start, stop):
        near = np.flatnonzero(np.bitwise_count(codes[row] ^ codes[row + 1 :]) <= tau)
        found.append(np.stack([np.full(len(near), row), near + row + 1]))
    return np.concatenate(found, axis=1)


@functools.lru_cache(maxsize=1)
def _numba_rows() -> Callable[..., Any] | None:
    """Return the same, compiled, or None without Numba."""
    try:
        numba = importlib.import_module("numba")
        extending = importlib.import_module("numba.extending")
    except ImportError:
        return None
    word = numba.types.uint64

    @extending.intrinsic  # type: ignore[untyped-decorator]
    def count(_: Any, __: Any) -> Any:
        return word(word), lambda _c, builder, _s, arguments: builder.ctpop(arguments[0])

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator]
    def scan(codes: Any, start: int, stop: int, tau: int) -> Any:
        rows = [0][:0]
        columns = [0][:0]
        for row in range(start, stop, 4):
            last = min(row + 4, stop) - 1
            a, b = codes[row], codes[min(row + 1, last)]
            c, d = codes[min(row + 2, last)], codes[last]
            for left in range(row, len(codes), COLUMNS):
                right = min(left + COLUMNS, len(codes))
                least = np.uint64(64)
                for k in range(max(left, last + 1), right):
                    code = codes[k]
                    least = min(least, count(code ^ a), count(code ^ b))
                    least = min(least, count(code ^ c), count(code ^ d))
                if least > tau and left > row:
                    continue
                for one in range(row, last + 1):
                    for other in range(max(left, one + 1), right):
                        if count(codes[one] ^ codes[other]) <= tau:
                            rows.append(one)
                            columns.append(other)
        found = np.empty((2, len(rows)), dtype=np.int64)
        for k in range(len(rows)):
            found[0, k], found[1, k] = rows[k], columns[k]
        return found

    def near(codes: Any, start: int, stop: int, tau: int) -> Any:
        return scan(codes, start, stop, tau)

    return near


CONTENDERS: dict[str, Contender] = {"separate brute force": brute_force}
