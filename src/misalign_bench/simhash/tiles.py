"""The join in NumPy alone: the same plans as the compiled join, and the same pairs.

Brute force goes tile by tile. Bands pay later than with kernels, because each candidate pair is
written out before it is compared.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from misalign_bench.simhash.bands import Band, Plan
from misalign_bench.simhash.join import Found
from misalign_bench.simhash.products import products

Codes = npt.NDArray[np.uint64]

_ROWS, _COLUMNS = 64, 2048


def join_by_numpy(codes: Codes, tau: int, plan: Plan) -> Iterator[Found]:
    """Yield each pair of different codes within ``tau`` once, in blocks of bounded size."""
    for number, band in enumerate(plan):
        if band.width == 0:
            blocks = _near_anywhere(codes, tau)
        else:
            blocks = _near_in_band(codes, tau, band, plan[:number])
        yield from (block for block in blocks if len(block.one))


def bit_counts(words: Codes) -> npt.NDArray[np.uint8]:
    """Return the number of set bits of each word."""
    if hasattr(np, "bitwise_count"):
        return np.bitwise_count(words)
    return _table_bit_counts(words)


def _near_anywhere(codes: Codes, tau: int) -> Iterator[Found]:
    """Compare every code with all that follow it."""
    for row in range(0, len(codes), _ROWS):
        rows = codes[row : row + _ROWS, None]
        for column in range(row, len(codes), _COLUMNS):
            distance = bit_counts(rows ^ codes[column : column + _COLUMNS])
            if column == row:
                # The first tile holds the diagonal: j <= i there is the same pair or no pair.
                distance[np.tri(*distance.shape, dtype=np.bool_)] = 255
            hits = np.flatnonzero(distance <= tau)
            above, aside = np.divmod(hits, distance.shape[1])
            yield Found(
                (above + row).astype(np.int32),
                (aside + column).astype(np.int32),
                distance.ravel()[hits],
            )


def _near_in_band(codes: Codes, tau: int, band: Band, earlier: Plan) -> Iterator[Found]:
    values = ((codes >> np.uint64(band.shift)) & np.uint64((1 << band.width) - 1)).astype(np.int64)
    order = np.argsort(values, kind="stable")
    starts = np.searchsorted(values[order], np.arange((1 << band.width) + 1))
    sizes = np.diff(starts)
    buckets = np.flatnonzero(sizes)
    for mask in band.masks():
        others = buckets ^ mask
        both = (others >= buckets) & (sizes[others] > 0)
        for one, other in products(starts, buckets[both], others[both]):
            difference = codes[order[one]] ^ codes[order[other]]
            distance = bit_counts(difference)
            near = distance <= tau
            if mask == 0:
                near &= one < other
            hits = np.flatnonzero(near)
            hits = hits[_is_new(difference[hits], earlier)]
            yield Found(
                order[one[hits]].astype(np.int32),
                order[other[hits]].astype(np.int32),
                distance[hits],
            )


def _is_new(difference: Codes, earlier: Plan) -> npt.NDArray[np.bool_]:
    """Mark the differences that no earlier band covers."""
    new = np.ones(len(difference), dtype=bool)
    for band in earlier:
        part = (difference >> np.uint64(band.shift)) & np.uint64((1 << band.width) - 1)
        new &= bit_counts(part) > band.radius
    return new


def _table_bit_counts(words: Codes) -> npt.NDArray[np.uint8]:
    """Count by table, 16 bits at a time, for a NumPy older than 2."""
    quarters = _BITS_OF_16[np.ascontiguousarray(words).view(np.uint16)]
    counts: npt.NDArray[np.uint8] = quarters.reshape(*words.shape, 4).sum(axis=-1, dtype=np.uint8)
    return counts


_BITS_OF_16 = np.array([bin(value).count("1") for value in range(1 << 16)], dtype=np.uint8)
