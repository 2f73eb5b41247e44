"""The compiled join: bands one after the other, rows shared out among the processors.

Memory beside the codes: one sorted copy of them with their positions (12 bytes a code), bucket
borders, and for each processor one buffer of results.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from misalign_bench.simhash.bands import Band, Plan
from misalign_bench.simhash.fast import workers

PIECES = 16
"""The rows of a band are cut into this many pieces a processor, so that all end together."""

_BUFFER = 1 << 16


class Found(NamedTuple):
    """Near pairs by position in the joined codes, in no order, either position first."""

    one: npt.NDArray[np.int32]
    other: npt.NDArray[np.int32]
    distance: npt.NDArray[np.uint8]


@dataclass(slots=True)
class _Piece:
    """Some rows of a band, and how far their comparison went."""

    state: npt.NDArray[np.int64]
    stop: int
    end: int

    @property
    def done(self) -> bool:
        return int(self.state[0]) == self.end


class _Band(NamedTuple):
    """What the kernel needs to know about one band."""

    codes: npt.NDArray[np.uint64]
    order: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    masks: npt.NDArray[np.int64]
    earlier: npt.NDArray[np.uint64]
    tau: np.uint64


def join_by_kernel(codes: npt.NDArray[np.uint64], tau: int, plan: Plan) -> Iterator[Found]:
    """Yield each pair of different codes within ``tau`` once, in blocks of bounded size."""
    threads = workers()
    with ThreadPoolExecutor(threads) as pool:
        for number, band in enumerate(plan):
            sorted_band = _sort(codes, tau, band, plan[:number])
            yield from _compare(sorted_band, pool, threads)


def _sort(codes: npt.NDArray[np.uint64], tau: int, band: Band, earlier: Plan) -> _Band:
    from misalign_bench.simhash.join_kernel import sort_into_buckets

    last = (1 << band.width) - 1
    starts = np.zeros(last + 2, dtype=np.int64)
    order = np.empty(len(codes), dtype=np.int32)
    by_band = np.empty_like(codes)
    sort_into_buckets(codes, np.uint64(band.shift), np.uint64(last), starts, order, by_band)
    covered = [(one.shift, (1 << one.width) - 1, one.radius) for one in earlier]
    return _Band(
        by_band,
        order,
        starts,
        np.array(band.masks(), dtype=np.int64),
        np.array(covered, dtype=np.uint64).reshape(-1, 3),
        np.uint64(tau),
    )


def _compare(band: _Band, pool: ThreadPoolExecutor, threads: int) -> Iterator[Found]:
    """Run the pieces of a band; the order of the results does not depend on the processors' speed.

    A piece whose buffer is full goes on only when the results were taken, so results cannot pile
    up however many there are.
    """
    waiting = deque(_pieces(band, threads))
    running: deque[tuple[_Piece, Future[Found]]] = deque()
    while waiting or running:
        while waiting and len(running) <= threads:
            piece = waiting.popleft()
            running.append((piece, pool.submit(_step, band, piece)))
        piece, future = running.popleft()
        found = future.result()
        if not piece.done:
            running.appendleft((piece, pool.submit(_step, band, piece)))
        if len(found.one):
            yield found


def _pieces(band: _Band, threads: int) -> Iterator[_Piece]:
    """Cut the rows evenly, each piece starting in the bucket of its first row."""
    borders = np.unique(np.linspace(0, len(band.codes), threads * PIECES + 1).astype(np.int64))
    end = len(band.starts)
    for first, stop in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
        bucket = int(np.searchsorted(band.starts, first, side="right")) - 1
        yield _Piece(np.array([bucket, 0, -1, 0, first], dtype=np.int64), stop, end)


def _step(band: _Band, piece: _Piece) -> Found:
    from misalign_bench.simhash.join_kernel import join_rows

    rows = np.empty(_BUFFER, dtype=np.int32)
    columns = np.empty(_BUFFER, dtype=np.int32)
    distances = np.empty(_BUFFER, dtype=np.uint8)
    count = join_rows(
        band.codes,
        band.starts,
        band.masks,
        band.earlier,
        band.tau,
        piece.stop,
        piece.state,
        rows,
        columns,
        distances,
    )
    return Found(band.order[rows[:count]], band.order[columns[:count]], distances[:count].copy())
