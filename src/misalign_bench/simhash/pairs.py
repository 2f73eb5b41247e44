"""All pairs of codes within a Hamming distance: exact, none missed, none twice.

Identical codes are grouped first, and only the distinct codes are compared, by bands (``bands``).
So a million copies of one code cost one sort and no comparison. What is returned, for N codes of
which D are distinct:

- each pair of *distinct* codes within ``tau``, once, between the first positions of the two codes;
- each later position of a code, once, with the first position of the same code, at distance 0.

That says everything about all N codes (positions that share a code have the same neighbours) in
at most N + D(D-1)/2 pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from misalign_bench.simhash.bands import KERNEL, NUMPY, Plan, plan
from misalign_bench.simhash.fast import use_kernels
from misalign_bench.simhash.fingerprint import Codes
from misalign_bench.simhash.join import Found, join_by_kernel
from misalign_bench.simhash.rule import MAX_TAU
from misalign_bench.simhash.tiles import join_by_numpy

MAX_PAIRS = 50_000_000
"""More pairs than this (850 MB of result) are refused with ``TooManyPairs``."""

_BLOCK = 1 << 16


class Pairs(NamedTuple):
    """Near pairs with i < j; sorted by (i, j) where they come all at once."""

    i: npt.NDArray[np.int64]
    j: npt.NDArray[np.int64]
    distance: npt.NDArray[np.uint8]


class TooManyPairs(ValueError):
    """The codes are so alike that their near pairs would not fit in memory."""


def near_pairs(
    codes: Codes, tau: int, *, limit: int = MAX_PAIRS, bands: Plan | None = None
) -> Pairs:
    """Return the pairs of codes that differ in at most ``tau`` bits.

    Args:
        codes: 64-bit codes, for example from ``fingerprint``.
        tau: the largest distance, 0 to 32.
        limit: the most pairs to return.
        bands: how to find them, by default the plan that is estimated to be the fastest.

    Returns:
        Pairs between the first positions of distinct codes, and of each repeated code with its
        first position (see the top of this file).

    Raises:
        TooManyPairs: there are more than ``limit``.

    >>> [list(map(int, column)) for column in near_pairs(np.array([7, 7, 6, 99], np.uint64), 1)]
    [[0, 0], [1, 2], [0, 1]]
    """
    # Until all are there, positions are kept in four bytes where they fit.
    small = np.int32 if len(codes) <= np.iinfo(np.int32).max else np.int64
    blocks = [
        (block.i.astype(small), block.j.astype(small), block.distance)
        for block in stream_near_pairs(codes, tau, limit=limit, bands=bands)
    ]
    if not blocks:
        empty = np.zeros(0, dtype=np.int64)
        return Pairs(empty, empty.copy(), np.zeros(0, dtype=np.uint8))
    i, j, distance = (np.concatenate(column) for column in zip(*blocks, strict=True))
    del blocks
    order = np.lexsort((j, i))
    return Pairs(i[order].astype(np.int64), j[order].astype(np.int64), distance[order])


def stream_near_pairs(
    codes: Codes, tau: int, *, limit: int | None = None, bands: Plan | None = None
) -> Iterator[Pairs]:
    """Yield what ``near_pairs`` returns, in blocks of bounded size, in no particular order.

    Memory stays bounded however many pairs there are, so by default there is no limit.

    Raises:
        TooManyPairs: more than ``limit`` were found; those found before were yielded.
    """
    if not 0 <= tau <= MAX_TAU:
        raise ValueError(f"tau is {tau}, but must lie between 0 and {MAX_TAU}")
    codes = np.ascontiguousarray(codes, dtype=np.uint64)
    distinct, first, order, starts = _group(codes)
    count = len(codes) - len(distinct)
    _refuse(count, limit, codes, distinct, tau)
    yield from _copies(order, starts, first)
    del order, starts
    if tau == 0:
        return
    for found in _join(distinct, tau, bands):
        count += len(found.one)
        _refuse(count, limit, codes, distinct, tau)
        one, other = first[found.one], first[found.other]
        yield Pairs(np.minimum(one, other), np.maximum(one, other), found.distance)


def _join(distinct: Codes, tau: int, bands: Plan | None) -> Iterator[Found]:
    if use_kernels(len(distinct)):
        return join_by_kernel(distinct, tau, bands or plan(len(distinct), tau, KERNEL))
    return join_by_numpy(distinct, tau, bands or plan(len(distinct), tau, NUMPY))


def _group(
    codes: Codes,
) -> tuple[Codes, npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the distinct codes, their first positions, all positions by code, and its borders."""
    order = np.argsort(codes).astype(np.int64, copy=False)
    by_code = codes[order]
    new = np.ones(len(codes), dtype=bool)
    np.not_equal(by_code[1:], by_code[:-1], out=new[1:])
    starts = np.flatnonzero(new)
    if len(starts) == len(codes):
        return by_code, order, order, starts
    return by_code[starts], np.minimum.reduceat(order, starts), order, starts


def _copies(
    order: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], first: npt.NDArray[np.int64]
) -> Iterator[Pairs]:
    """Yield each later position of a code with its first."""
    if len(starts) == len(order):
        return
    for at in range(0, len(order), _BLOCK):
        positions = order[at : at + _BLOCK]
        group = np.searchsorted(starts, np.arange(at, at + len(positions)), side="right") - 1
        original = first[group]
        later = positions != original
        copies = positions[later]
        if len(copies):
            yield Pairs(original[later], copies, np.zeros(len(copies), dtype=np.uint8))


def _refuse(count: int, limit: int | None, codes: Codes, distinct: Codes, tau: int) -> None:
    if limit is not None and count > limit:
        raise TooManyPairs(
            f"{len(codes):,} codes ({len(distinct):,} distinct) have more than {limit:,} pairs "
            f"within tau = {tau}; take a smaller tau or fewer texts"
        )
