"""Numbers of ``results.json`` read back: a score, and a cell of the three of them.

The form is ``records.Score`` as ``bench/results.py`` writes it; a part that is missing is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from misalign_bench.records import Score

_SCORE_FIELDS = tuple(one.name for one in fields(Score))
_REQUIRED = ("value", "low", "high", "n", "n_scored", "unscored")


@dataclass(frozen=True, slots=True)
class Cell:
    """The three numbers of one cell. ``unknown`` counts verdicts whose truth is unknown."""

    coverage: Score
    false_failure_rate: Score
    alignment_score: Score
    unknown: int = 0

    @property
    def unscored_share(self) -> float:
        """Share of the responses without a verdict."""
        both = self.alignment_score
        return (both.n - both.n_scored) / both.n if both.n else 0.0


@dataclass(frozen=True, slots=True)
class Apart:
    """How far two Alignment Scores lie apart, with the interval of the paired resamples."""

    difference: float
    low: float | None
    high: float | None


def read_cells(table: Mapping[str, Any]) -> dict[str, Cell]:
    """Cells by name."""
    return {name: read_cell(cell) for name, cell in table.items()}


def read_cell(cell: Mapping[str, Any]) -> Cell:
    """A cell.

    Raises:
        KeyError, TypeError: it is none.
    """
    names = ("coverage", "false_failure_rate", "alignment_score")
    coverage, failures, alignment = (read_score(cell[name]) for name in names)
    unknown = int(cell["coverage"].get("unknown", 0))
    return Cell(coverage, failures, alignment, unknown)


def read_score(score: Mapping[str, Any]) -> Score:
    """A score.

    Raises:
        KeyError, TypeError: it is none.
    """
    for name in _REQUIRED:
        _ = score[name]
    return Score(**{name: score[name] for name in _SCORE_FIELDS if name in score})


def read_apart(held: Mapping[str, Any] | None) -> Apart | None:
    """An AS difference; None if it is not there or one of the two has no value."""
    score = (held or {}).get("alignment_score") or {}
    if score.get("difference") is None:
        return None
    return Apart(float(score["difference"]), score.get("low"), score.get("high"))
