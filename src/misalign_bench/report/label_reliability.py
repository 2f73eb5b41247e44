"""Whether the classifier's probabilities say how often: its reliability, as the build kept it.

``evidence.json`` holds the classifier's description; a fitted one has per dimension two diagrams
(``build/classify/reliability.py``): over all prompts and domains, and over the most probable domain
of each prompt. Every probability in them is of a prompt that the fit had not seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from misalign_bench.errors import UserError
from misalign_bench.json_text import read_json
from misalign_bench.records import DIMENSIONS

EVIDENCE = "evidence.json"
OVER = {"best_domain": "most probable domain of each prompt", "pairs": "all prompts and domains"}
"""What a diagram is over, the one to draw first."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bin: how many probabilities lie in it, their mean, the share of labels that are there."""

    low: float
    high: float
    count: int
    probability: float
    share: float


@dataclass(frozen=True, slots=True)
class Diagram:
    """A reliability diagram with its expected calibration error (None without labels)."""

    dimension: str
    over: str
    error: float | None
    bars: tuple[Bar, ...]

    @property
    def count(self) -> int:
        """How many probabilities it rests on."""
        return sum(bar.count for bar in self.bars)


def read_reliability(folder: Path) -> tuple[Diagram, ...]:
    """The diagrams of a build's classifier, by dimension; empty if it was not fitted.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / EVIDENCE
    if not path.is_file():
        return ()
    try:
        classifier = read_json(path.read_bytes())["classifier"]
        return tuple(_diagrams(_fitted(classifier)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(
            f"is no evidence of a build ({reason})", where=str(path), mend="Build again"
        ) from None


def _fitted(classifier: Mapping[str, Any]) -> Mapping[str, Any]:
    """The reliability by dimension; of a cascade, that of its first method."""
    held: Mapping[str, Any] = classifier.get("reliability") or {}
    first = classifier.get("first")
    return held if held or not first else _fitted(first)


def _diagrams(held: Mapping[str, Any]) -> Iterator[Diagram]:
    for dimension in DIMENSIONS:
        for over in OVER:
            table = held.get(dimension, {}).get(over)
            if table is not None:
                bars = tuple(Bar(**bar) for bar in table["bins"])
                yield Diagram(dimension, over, table["expected_calibration_error"], bars)
