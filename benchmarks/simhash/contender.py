"""What a contender is: an iterator that does a task step by step and says how far it is.

The first thing it yields is that its set-up is done (an index is filled, say); after that, how many
rows of the task are done. So whoever drives it (``measured``) can stop it when its time is up
and scale what was done up to the whole, and a contender that nobody would wait for still gets a
row in the table. Rows are taken in a random order, so that a part is a fair sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]


@dataclass
class Task:
    """The input of a contender, and where it puts what it finds.

    Attributes:
        tau: the largest Hamming distance of a pair.
        texts: the texts, empty where the task is on codes.
        codes: the codes, empty where the task is on texts.
        found: arrays of (i, j), one more for each step.
        rows: positions in the order in which a contender that asks row by row should ask.
        weight: what a full run costs, per row, relative to the rows that were timed.
    """

    tau: int
    texts: Sequence[str] = ()
    codes: Codes = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    found: list[Any] = field(default_factory=list)
    rows: Rows = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Shuffle the rows."""
        size = len(self.texts) or len(self.codes)
        self.rows = np.random.default_rng(0).permutation(size)

    def batches(self, size: int) -> Iterator[tuple[int, Rows]]:
        """Yield the rows in batches, each with how many rows are done after it."""
        for start in range(0, len(self.rows), size):
            batch = self.rows[start : start + size]
            yield start + len(batch), batch

    def keep(self, i: Any, j: Any) -> None:
        """Remember pairs, given as two columns."""
        self.found.append(np.stack([np.asarray(i, dtype=np.int64), np.asarray(j, dtype=np.int64)]))


Contender = Callable[[Task], Iterator[int]]
