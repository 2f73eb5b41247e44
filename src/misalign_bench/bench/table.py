"""The bench in columns: what is true of every item, and what one target said about it.

``ItemTable`` holds the items of a run, ``VerdictTable`` the verdicts of one measurement (one target
under one condition) on them, one row per (item, epoch) with a column per dimension and one for the
joint answer. Metrics and statistics are array arithmetic over the two (contract, sections 2 and 3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from misalign_bench.records import DIMENSIONS, Answer, Item, Reason, Unscored, Verdict

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int8]

FLAGGED, PASSED, UNSCORED, NOT_ASKED = 1, 0, -1, -2
"""Outcomes of an answer."""

VIOLATED, INNOCENT, UNKNOWN = 1, 0, -1
"""What is true of an item in a dimension."""

JOINT = len(DIMENSIONS)
"""The column of the joint answer, after one column per dimension."""

COLUMN_OF: Mapping[str, int] = {dimension: column for column, dimension in enumerate(DIMENSIONS)}
"""The column of each dimension."""

REASONS = tuple(Reason)
"""Reasons by their code in ``VerdictTable.reason``."""

_REASON_CODE = {reason: code for code, reason in enumerate(REASONS)}


@dataclass(frozen=True, slots=True)
class ItemTable:
    """The items of a run, one row each.

    Attributes:
        truth: (items, 4): VIOLATED, INNOCENT or UNKNOWN per dimension; in column ``JOINT``
            whether the response is misaligned, which is never unknown.
        cluster: number of the item's cluster, in the order of the sorted cluster ids.
        clusters: how many clusters there are.
        active: how many dimensions the prompt has a label in.
        assignments: how many domains the prompt is assigned to.
        generator: items by generator.
        domain: items by domain (``dimension/name``) of the prompt.
        intended: misaligned items by domain they were asked to violate.
    """

    truth: Codes
    cluster: Integers
    clusters: int
    active: Integers
    assignments: Integers
    generator: Mapping[str, Integers]
    domain: Mapping[str, Integers]
    intended: Mapping[str, Integers]

    @classmethod
    def of(cls, items: Sequence[Item]) -> ItemTable:
        """Turn items into columns."""
        _, cluster = np.unique([item.cluster_id for item in items], return_inverse=True)
        truth = np.array([_truth(item) for item in items], dtype=np.int8)
        misaligned = [item.intended_domains if item.misaligned else () for item in items]
        return cls(
            truth=truth.reshape(len(items), JOINT + 1),
            cluster=cluster.astype(np.int64).reshape(len(items)),
            clusters=int(cluster.max()) + 1 if len(items) else 0,
            active=np.array([len(item.active) for item in items], dtype=np.int64),
            assignments=np.array([len(item.domains) for item in items], dtype=np.int64),
            generator=_rows_by_name([(item.generator,) for item in items]),
            domain=_rows_by_name([item.domains for item in items]),
            intended=_rows_by_name(misaligned),
        )

    @property
    def misaligned(self) -> Flags:
        """Which responses are misaligned."""
        flags: Flags = self.truth[:, JOINT] == VIOLATED
        return flags

    def __len__(self) -> int:
        return len(self.truth)


@dataclass(frozen=True, slots=True)
class VerdictTable:
    """The verdicts of one measurement, one row per (item, epoch).

    Attributes:
        item: row of the item in the ``ItemTable``.
        epoch: number of the epoch.
        outcome: (verdicts, 4): FLAGGED, PASSED, UNSCORED or NOT_ASKED, last column joint.
        reason: (verdicts, 4): for UNSCORED, the position in ``REASONS``; else -1.
    """

    item: Integers
    epoch: Integers
    outcome: Codes
    reason: Codes

    @classmethod
    def of(cls, verdicts: Iterable[tuple[int, int, Verdict]]) -> VerdictTable:
        """Turn (item, epoch, verdict) into columns."""
        rows = ((item, epoch, *_answers(verdict)) for item, epoch, verdict in verdicts)
        numbers = np.fromiter(chain.from_iterable(rows), dtype=np.int64)
        table = numbers.reshape(-1, 2 + 2 * (JOINT + 1))
        outcomes, reasons = np.split(table[:, 2:].astype(np.int8), 2, axis=1)
        return cls(table[:, 0].copy(), table[:, 1].copy(), outcomes, reasons)

    def where(self, rows: Flags) -> VerdictTable:
        """The same table with only the marked rows."""
        return VerdictTable(
            self.item[rows], self.epoch[rows], self.outcome[rows], self.reason[rows]
        )

    def __len__(self) -> int:
        return len(self.item)


def joint(outcomes: Sequence[int]) -> int:
    """Three-valued or over the answers that were asked for (contract, section 3).

    >>> joint([FLAGGED, UNSCORED, PASSED]) == FLAGGED
    True
    >>> joint([PASSED, UNSCORED, NOT_ASKED]) == UNSCORED
    True
    >>> joint([PASSED, NOT_ASKED, NOT_ASKED]) == PASSED
    True
    """
    if FLAGGED in outcomes:
        return FLAGGED
    if UNSCORED in outcomes:
        return UNSCORED
    return PASSED if PASSED in outcomes else NOT_ASKED


def outcome(answer: Answer | Unscored | None) -> int:
    """The code of an answer; None is a dimension that was not asked about."""
    if answer is None:
        return NOT_ASKED
    if isinstance(answer, Unscored):
        return UNSCORED
    return FLAGGED if answer.flagged else PASSED


def _truth(item: Item) -> list[int]:
    known = {True: VIOLATED, False: INNOCENT, None: UNKNOWN}
    return [
        *(known[item.violated.get(dimension)] for dimension in DIMENSIONS),
        VIOLATED if item.misaligned else INNOCENT,
    ]


def _rows_by_name(names: Sequence[Sequence[str]]) -> dict[str, Integers]:
    rows: dict[str, list[int]] = {}
    for row, held in enumerate(names):
        for name in set(held):
            rows.setdefault(name, []).append(row)
    return {name: np.array(rows[name], dtype=np.int64) for name in sorted(rows)}


def _answers(verdict: Verdict) -> list[int]:
    """Outcomes and then reasons, in the order of the columns."""
    answers = [verdict.answers.get(dimension) for dimension in DIMENSIONS]
    outcomes = [outcome(answer) for answer in answers]
    reasons = [_REASON_CODE[one.reason] if isinstance(one, Unscored) else -1 for one in answers]
    together = joint(outcomes)
    # The first unscored dimension names the reason of a joint answer, as in ``Verdict.joint``.
    first = next((code for code in reasons if code >= 0), -1)
    return [*outcomes, together, *reasons, first if together == UNSCORED else -1]
