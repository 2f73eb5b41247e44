"""All pairs of codes within a Hamming distance: exact, none missed, none twice.

Identical codes are grouped first, and only the distinct codes are compared, tile by tile. So a
million copies of one code cost one sort and no comparison. What is returned, for N codes of which
D are distinct:

- each pair of *distinct* codes within ``tau``, once, between the first positions of the two codes;
- each later position of a code, once, with the first position of the same code, at distance 0.

That says everything about all N codes (positions that share a code have the same neighbours) in
at most N + D(D-1)/2 pairs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from misalign_bench.simhash.fingerprint import Codes
from misalign_bench.simhash.rule import MAX_TAU

MAX_PAIRS = 50_000_000
"""More pairs than this (850 MB of result) are refused with ``TooManyPairs``."""

_ROWS, _COLUMNS = 64, 2048


class Pairs(NamedTuple):
    """Near pairs, sorted by (i, j), with i < j."""

    i: npt.NDArray[np.int64]
    j: npt.NDArray[np.int64]
    distance: npt.NDArray[np.uint8]


class TooManyPairs(ValueError):
    """The codes are so alike that their near pairs would not fit in memory."""


def near_pairs(codes: Codes, tau: int, *, limit: int = MAX_PAIRS) -> Pairs:
    """Return the pairs of codes that differ in at most ``tau`` bits.

    Args:
        codes: 64-bit codes, for example from ``fingerprint``.
        tau: the largest distance, 0 to 32.
        limit: the most pairs to return.

    Returns:
        Pairs between the first positions of distinct codes, and of each repeated code with its
        first position (see the top of this file).

    Raises:
        TooManyPairs: there are more than ``limit``.

    >>> [list(map(int, column)) for column in near_pairs(np.array([7, 7, 6, 99], np.uint64), 1)]
    [[0, 0], [1, 2], [0, 1]]
    """
    if not 0 <= tau <= MAX_TAU:
        raise ValueError(f"tau is {tau}, but must lie between 0 and {MAX_TAU}")
    codes = np.ascontiguousarray(codes, dtype=np.uint64)
    distinct, first, group = np.unique(codes, return_index=True, return_inverse=True)
    copies = np.setdiff1d(np.arange(len(codes)), first, assume_unique=True)
    found = [Pairs(first[group[copies]], copies, np.zeros(len(copies), dtype=np.uint8))]
    count = len(copies)
    for row in range(0, len(distinct) if tau > 0 else 0, _ROWS):
        if count > limit:
            break
        near = _near_in_rows(distinct, row, tau)
        count += len(near.i)
        one, other = first[near.i], first[near.j]
        found.append(Pairs(np.minimum(one, other), np.maximum(one, other), near.distance))
    if count > limit:
        raise TooManyPairs(
            f"{len(codes):,} codes ({len(distinct):,} distinct) have more than {limit:,} pairs "
            f"within tau = {tau}; take a smaller tau or fewer texts"
        )
    i, j, distance = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((j, i))
    return Pairs(i[order].astype(np.int64), j[order].astype(np.int64), distance[order])


def _near_in_rows(codes: Codes, row: int, tau: int) -> Pairs:
    """Compare codes ``row`` to ``row + _ROWS`` with all that follow them."""
    rows = codes[row : row + _ROWS, None]
    found: list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.uint8]]] = []
    for column in range(row, len(codes), _COLUMNS):
        distance = bit_counts(rows ^ codes[column : column + _COLUMNS])
        if column == row:
            # The first tile holds the diagonal: j <= i there is the same pair or no pair.
            distance[np.tri(*distance.shape, dtype=np.bool_)] = 255
        hits = np.flatnonzero(distance <= tau)
        above, aside = np.divmod(hits, distance.shape[1])
        found.append((above + row, aside + column, distance.ravel()[hits]))
    return Pairs(*(np.concatenate(column) for column in zip(*found, strict=True)))


def bit_counts(words: Codes) -> npt.NDArray[np.uint8]:
    """Return the number of set bits of each word."""
    if hasattr(np, "bitwise_count"):
        return np.bitwise_count(words)
    return table_bit_counts(words)


def table_bit_counts(words: Codes) -> npt.NDArray[np.uint8]:
    """Do the same by table, 16 bits at a time, for a NumPy older than 2."""
    quarters = _BITS_OF_16[np.ascontiguousarray(words).view(np.uint16)]
    counts: npt.NDArray[np.uint8] = quarters.reshape(*words.shape, 4).sum(axis=-1, dtype=np.uint8)
    return counts


_BITS_OF_16 = np.array([value.bit_count() for value in range(1 << 16)], dtype=np.uint8)
