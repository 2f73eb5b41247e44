"""Why comparing a small part of all pairs misses none: bands and the general pigeonhole principle.

Cut the 64 bits into bands and give band b a radius r_b, such that the sum of all (r_b + 1) is
tau + 1. Two codes that differ by more than r_b bits in *every* band differ in at least tau + 1
bits. So two codes within tau differ by at most r_b bits in some band b, and comparing each code
with those whose band b is within r_b, for each b, finds every pair (multi-index hashing: Norouzi,
Punjani, Fleet 2012; the general principle: Qin et al. 2018, *GPH: Similarity Search in Hamming
Space*). The first band that covers a pair reports it, so each pair comes once.

Wider bands mean fewer comparisons in more and smaller buckets. ``plan`` takes the cut with the
least estimated time. One band of no bits is brute force: every code is in the same bucket.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import comb

BITS = 64
WIDEST = 20
"""A band has at most this many bits: 2^20 bucket borders take 8 MB."""


@dataclass(frozen=True, slots=True)
class Band:
    """A run of bits of a code.

    Attributes:
        shift: position of its lowest bit.
        width: its number of bits.
        radius: codes that differ in at most this many of them are compared.
    """

    shift: int
    width: int
    radius: int

    def masks(self) -> list[int]:
        """Return every difference of two compared bands: all numbers of at most radius set bits."""
        return [
            sum(1 << bit for bit in bits)
            for count in range(self.radius + 1)
            for bits in combinations(range(self.width), count)
        ]

    @property
    def neighbours(self) -> int:
        """How many buckets a bucket is compared with, itself included."""
        return sum(comb(self.width, count) for count in range(self.radius + 1))


Plan = tuple[Band, ...]


@dataclass(frozen=True, slots=True)
class Prices:
    """What the parts of a join cost, in units of one comparison of brute force (as measured).

    Attributes:
        pair: one comparison of codes in different buckets.
        bucket: meeting one bucket from another.
        rows: starting eight rows on one bucket.
        code: sorting one code into one band.
    """

    pair: float
    bucket: float
    rows: float
    code: float


KERNEL = Prices(pair=1.0, bucket=700.0, rows=400.0, code=300.0)
NUMPY = Prices(pair=30.0, bucket=20.0, rows=0.0, code=100.0)


def brute_force(tau: int) -> Plan:
    """Return the plan that compares every code with every other."""
    return (Band(0, 0, tau),)


@lru_cache(maxsize=256)
def plan(size: int, tau: int, prices: Prices = KERNEL) -> Plan:
    """Return the plan that is estimated to join this many different codes soonest.

    >>> [(band.width, band.radius) for band in plan(1_000, 10)]
    [(0, 10)]
    >>> sum(band.radius + 1 for band in plan(10_000_000, 10))
    11
    """
    return min((brute_force(tau), *_cuts(tau)), key=lambda bands: cost(bands, size, prices))


def cost(bands: Plan, size: int, prices: Prices = KERNEL) -> float:
    """Estimate the time of a plan on codes that spread evenly, in comparisons."""
    total = 0.0
    for band in bands:
        buckets = 2.0**band.width
        held = size / buckets
        meetings = buckets * band.neighbours / 2
        # A bucket that is mostly empty is mostly skipped.
        total += meetings * min(1.0, held) * prices.bucket
        total += meetings * min(1.0, held) ** 2 * (held / 8 + 0.5) * prices.rows
        total += meetings * held**2 * (prices.pair if band.width else 1.0)
        total += size * prices.code
    return total


def _cuts(tau: int) -> Iterator[Plan]:
    """Yield plans: 2 to tau + 1 bands of two radii, the larger radius on the wider bands."""
    for bands in range(2, min(tau + 1, BITS) + 1):
        radius, wide = divmod(tau + 1, bands)
        narrow = bands - wide
        for bits in range(BITS + 1) if wide else (0,):
            widths = _shares(bits, wide) + _shares(BITS - bits, narrow)
            if min(widths) > 0 and max(widths) <= WIDEST:
                shifts = [sum(widths[:k]) for k in range(bands)]
                radii = [radius] * wide + [radius - 1] * narrow
                yield tuple(map(Band, shifts, widths, radii))


def _shares(bits: int, bands: int) -> list[int]:
    """Cut some bits into bands of nearly equal width."""
    return [bits // bands + (k < bits % bands) for k in range(bands)] if bands else []
