"""All pairs of members of pairs of buckets, as arrays, a bounded number at a time.

Buckets are runs of positions: bucket b holds the positions from ``starts[b]`` to before
``starts[b + 1]``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.intp]

BLOCK = 1 << 18


def products(
    starts: Positions, ones: Positions, others: Positions
) -> Iterator[tuple[Positions, Positions]]:
    """Yield each pair of a position in bucket ``ones[k]`` and one in bucket ``others[k]``.

    >>> borders = np.array([0, 2, 3])
    >>> [(one.tolist(), other.tolist()) for one, other in products(borders, [0], [1])]
    [([0, 1], [2, 2])]
    """
    ones, others = np.asarray(ones, dtype=np.intp), np.asarray(others, dtype=np.intp)
    which, rows = spread(starts[ones], starts[ones + 1])
    first, stop = starts[others[which]], starts[others[which] + 1]
    ends = np.cumsum(stop - first)
    at = 0
    while at < len(rows):
        done = ends[at - 1] if at else 0
        # At least one row, however long.
        until = max(at + 1, int(np.searchsorted(ends, done + BLOCK, side="right")))
        owner, other = spread(first[at:until], stop[at:until])
        yield rows[at:until][owner], other
        at = until


def spread(first: Positions, stop: Positions) -> tuple[Positions, Positions]:
    """Write ranges out: for each position, which range it is of, and the position.

    >>> [column.tolist() for column in spread(np.array([5, 0]), np.array([7, 1]))]
    [[0, 0, 1], [5, 6, 0]]
    """
    lengths = stop - first
    owner = np.repeat(np.arange(len(first)), lengths)
    return owner, np.arange(len(owner)) + (first - np.cumsum(lengths) + lengths)[owner]
