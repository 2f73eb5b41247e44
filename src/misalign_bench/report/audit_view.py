"""What people say of the evaluator, as the page shows it: the audit that lies in a build's folder.

``audit/audit.json`` is what ``audit score`` wrote (``bench/audit/results.py``): the evaluator
against the annotators by dimension, and benches corrected for its error, raw beside corrected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from misalign_bench.bench.audit.resampling import Estimate
from misalign_bench.bench.audit.results import AUDIT, FOLDER
from misalign_bench.errors import UserError
from misalign_bench.json_text import read_json
from misalign_bench.records import CONDITIONS

_METRICS = ("coverage", "false_failure_rate", "alignment_score")
_ESTIMATES = ("raw", "prediction_powered", "inversion")


@dataclass(frozen=True, slots=True)
class Checked:
    """The evaluator in one column against the annotators' majority.

    Attributes:
        column: ``joint`` or a dimension.
        without: sampled responses that have no label here: tied, unsure or missing.
        agreement: of the annotators; None with one annotator.
        metrics: Coverage, FFR and AS of the evaluator.
    """

    column: str
    labelled: int
    without: int
    agreement: float | None
    metrics: tuple[Estimate, ...]


@dataclass(frozen=True, slots=True)
class Corrected:
    """One way to estimate a target's Coverage, FFR and AS."""

    bench: str
    target: str
    condition: str
    column: str
    estimate: str
    metrics: tuple[Estimate, ...]


@dataclass(frozen=True, slots=True)
class Rate:
    """The rate of misaligned answers of a target that answered itself, raw and by Rogan-Gladen."""

    bench: str
    target: str
    column: str
    raw: float
    corrected: Estimate


@dataclass(frozen=True, slots=True)
class AuditView:
    """An audit, laid out.

    Attributes:
        annotators: how many people labelled.
        statistic: how their agreement is measured, in words; empty for one annotator.
        population: judged responses that the sample stands for.
    """

    evaluators: tuple[str, ...]
    annotators: int
    statistic: str
    population: int
    checked: tuple[Checked, ...]
    corrected: tuple[Corrected, ...]
    rates: tuple[Rate, ...]


def read_audit(folder: Path) -> AuditView | None:
    """The audit of a build's run folder; None if nobody audited it.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / FOLDER / AUDIT
    if not path.is_file():
        return None
    try:
        return _view(read_json(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"is no audit ({type(error).__name__}: {error})",
            where=str(path),
            mend="Score the labels again: misalign-bench audit score",
        ) from None


def _view(table: Mapping[str, Any]) -> AuditView:
    held = table["evaluator"]
    people = len(table["annotators"])
    statistic = {1: "", 2: "Cohen's kappa"}.get(people, "Krippendorff's alpha")
    population = {name: int(number) for name, number in table["population"].items()}
    return AuditView(
        evaluators=tuple(map(str, table["evaluators"])),
        annotators=people,
        statistic=statistic,
        population=sum(population.values()) - population.get("unjudged", 0),
        checked=tuple(_checked(name, held[name]) for name in CONDITIONS if name in held),
        corrected=tuple(_corrected(table["benches"])),
        rates=tuple(_rates(table["responding"])),
    )


def _checked(column: str, held: Mapping[str, Any]) -> Checked:
    agreed = held["agreement"]
    return Checked(
        column,
        int(held["labelled"]),
        sum(int(number) for number in held["not_labelled"].values()),
        None if agreed is None else agreed["value"],
        _metrics(held),
    )


def _corrected(benches: Any) -> Iterator[Corrected]:
    for bench in benches:
        for row in bench["measurements"]:
            for name in _ESTIMATES:
                if name in row:
                    place = (row["target"], row["condition"], row["column"])
                    yield Corrected(bench["name"], *place, name, _metrics(row[name]))


def _rates(responding: Any) -> Iterator[Rate]:
    for bench in responding:
        for row in bench["rates"]:
            corrected = Estimate(**row["rogan_gladen"])
            place = (bench["name"], row["target"], row["column"])
            yield Rate(*place, float(row["raw"]), corrected)


def _metrics(held: Mapping[str, Any]) -> tuple[Estimate, ...]:
    return tuple(Estimate(**held[name]) for name in _METRICS)
