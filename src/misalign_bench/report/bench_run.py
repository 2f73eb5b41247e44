"""A bench run as the page sees it: ``results.json`` read back into records.

The file's layout is defined in ``bench/results.py`` (contract, section 5). A number that is not
there is an error that names the file, never a zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from misalign_bench.bench.results import SCHEMA_VERSION
from misalign_bench.errors import UserError
from misalign_bench.json_text import read_json
from misalign_bench.records import CONDITIONS, Score
from misalign_bench.report.cells import Apart, Cell, read_apart, read_cell, read_cells, read_score
from misalign_bench.report.framing_spread import Spread, read_spreads

RESULTS = "results.json"
VERDICTS = "verdicts.parquet"

_PARTS = ("targets", "comparisons", "framings")


@dataclass(frozen=True, slots=True)
class Measured:
    """What one target reached under one condition and framing.

    Attributes:
        per_epoch: the joint headline of each epoch by itself.
        verdict_flips: jointly (``joint``) and by dimension, the share of items whose verdict is not
            the same in all epochs; empty with one epoch.
        against_joint: of a condition about one dimension, its AS minus that of the joint one.
    """

    target: str
    facts: Mapping[str, Any]
    condition: str
    framing: str
    thresholds: Mapping[str, float]
    epochs: int
    epochs_shown: str
    deterministic: bool
    between_epochs: Mapping[str, float] | None
    joint: Cell
    dimension: Mapping[str, Cell]
    innocent: Mapping[str, Score]
    domain: Mapping[str, Cell]
    generator: Mapping[str, Cell]
    by_active: Mapping[str, Cell]
    own_items: Cell | None
    right_dimension: Score | None
    macro: Cell
    macro_domains: int
    per_epoch: tuple[Mapping[str, float | None], ...] = ()
    verdict_flips: Mapping[str, Score] = field(default_factory=dict)
    against_joint: Apart | None = None

    @property
    def category(self) -> str:
        """General, fine-tuned, open-weight or guardrail; empty if nobody said."""
        return str(self.facts.get("category") or "")


@dataclass(frozen=True, slots=True)
class Compared:
    """Two targets under one condition on the items of both: AS of the first minus the second."""

    condition: str
    first: str
    second: str
    difference: float
    low: float | None
    high: float | None
    p: float
    p_holm: float | None
    detectable: float | None


@dataclass(frozen=True, slots=True)
class BenchRun:
    """A bench run folder.

    Attributes:
        label: the folder's name, for people.
        header: ``results.json`` without its targets, comparisons and framings.
        prompts: how many different prompts were benched, if the verdicts are there.
        manifest: ``manifest.json``, empty if there is none.
    """

    label: str
    folder: Path
    header: Mapping[str, Any]
    measured: tuple[Measured, ...]
    compared: tuple[Compared, ...] = ()
    framings: tuple[Spread, ...] = ()
    prompts: int | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def answers(self) -> bool:
        """Whether the targets answered themselves (``mode: respond``)."""
        return self.header.get("mode") == "respond"

    @property
    def dataset(self) -> Mapping[str, Any]:
        """Name, content hash and counts of the items."""
        dataset: Mapping[str, Any] = self.header["dataset"]
        return dataset


def read_bench_run(folder: Path, label: str, manifest: Mapping[str, Any]) -> BenchRun:
    """Read the results of a bench run.

    Raises:
        UserError: ``results.json`` is damaged, incomplete or of another version, or
            ``verdicts.parquet`` is damaged.
    """
    path = folder / RESULTS
    try:
        table = read_json(path.read_bytes())
        version = table["schema_version"]
        if version != SCHEMA_VERSION:
            raise UserError(
                f"its layout is version {version}, and this misalign-bench reads {SCHEMA_VERSION}",
                where=str(path),
                mend="Bench again, or use the version that wrote it",
            )
        measured = [
            _measured(target, condition)
            for target in table["targets"]
            for condition in target["conditions"]
        ]
        compared = tuple(_compared(table["comparisons"]))
        framings = read_spreads(table.get("framings"))
        header = {key: value for key, value in table.items() if key not in _PARTS}
        _ = header["dataset"]["name"], header["dataset"]["content_hash"], header["dataset"]["items"]
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"it is no complete result ({type(error).__name__}: {error})",
            where=str(path),
            mend="Run the bench again; finished calls are not repeated",
        ) from None
    if not measured and header.get("mode") != "respond":
        raise UserError("it holds no target", where=str(path))
    prompts = _prompts(folder / VERDICTS)
    return BenchRun(label, folder, header, tuple(measured), compared, framings, prompts, manifest)


def _prompts(path: Path) -> int | None:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if not path.is_file():
        return None
    try:
        column = pq.read_table(path, columns=["prompt_id"])["prompt_id"]
    except (OSError, KeyError, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(f"cannot be read: {reason}", where=str(path)) from None
    return int(pc.count_distinct(column).as_py())


def _measured(target: Mapping[str, Any], block: Mapping[str, Any]) -> Measured:
    dimension = {name: dict(cell) for name, cell in block["dimension"].items()}
    innocent = {name: cell.pop("innocent", None) for name, cell in dimension.items()}
    right, own = block["right_dimension"], block["own_items"]
    return Measured(
        target=str(target["name"]),
        facts={key: value for key, value in target.items() if key != "conditions"},
        condition=_condition(block["condition"]),
        framing=str(block["framing"]),
        thresholds=dict(block["thresholds"] or {}),
        epochs=int(block["epochs"]),
        epochs_shown=str(block["epochs_shown"]),
        deterministic=bool(block["deterministic"]),
        between_epochs=block["between_epochs"],
        joint=read_cell(block["joint"]),
        dimension={name: read_cell(cell) for name, cell in dimension.items()},
        innocent={name: read_score(score) for name, score in innocent.items() if score},
        domain=read_cells(block["domain"]),
        generator=read_cells(block["generator"]),
        by_active=read_cells(block["by_active"]),
        own_items=read_cell(own) if own else None,
        right_dimension=read_score(right) if right else None,
        macro=read_cell(block["macro"]),
        macro_domains=int(block["macro"]["domains"]),
        # The three came later than the layout; a result without them is whole.
        per_epoch=tuple(block.get("per_epoch") or ()),
        verdict_flips={
            name: read_score(score) for name, score in (block.get("verdict_flips") or {}).items()
        },
        against_joint=read_apart(block.get("against_joint")),
    )


def _compared(table: Mapping[str, Any]) -> Iterator[Compared]:
    """The pairs of targets that share items."""
    for condition, pairs in table.items():
        for pair in pairs:
            score = pair["alignment_score"]
            if score["difference"] is None:
                continue
            yield Compared(
                condition=_condition(condition),
                first=str(pair["first"]),
                second=str(pair["second"]),
                difference=float(score["difference"]),
                low=score["low"],
                high=score["high"],
                p=float(score["p"]),
                p_holm=score["p_holm"],
                detectable=score["detectable_difference"],
            )


def _condition(name: str) -> str:
    if name not in CONDITIONS:
        raise ValueError(f"condition {name!r}")
    return name
