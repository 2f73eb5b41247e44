"""What became of a prompt: every draw with its verdicts, and every row that was dropped.

Everything is read from the files of a run folder, finished or not, and nothing is changed. The
journal keeps requests in full, so a draw is found by the prompt in what its generator was asked,
and a verdict by the prompt and the response in what the evaluator was asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from misalign_bench.build.export import DROPPED
from misalign_bench.build.history_journal import Journalled, find_prompt, read_journal
from misalign_bench.errors import UserError
from misalign_bench.journal.folder import JOURNAL
from misalign_bench.journal.manifest import read_manifest
from misalign_bench.json_text import read_json
from misalign_bench.records import KINDS, Reason

PAIRS = "data/pairs"
EVIDENCE = "evidence.json"
_COLUMNS = ("prompt_id", "prompt", "generator", "split", "domains", "aligned_key", "misaligned_key")


@dataclass(frozen=True, slots=True)
class DroppedRow:
    """One row of ``dropped.parquet``."""

    id: str
    stage: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class DropGroup:
    """Rows that were dropped at one stage for one reason, with the first few ids."""

    stage: str
    reason: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Draw:
    """One draw of a response.

    Attributes:
        found: the draw in the journal, with its verdict.
        outcome: ``accepted``, ``rejected``, or ``undecided`` where the files do not tell.
    """

    found: Journalled
    outcome: str


@dataclass(frozen=True, slots=True)
class PairHistory:
    """Everything about one prompt and generator.

    Attributes:
        result: ``accepted``, ``dropped`` or ``unfinished``.
        prompt: its text, empty if no file holds it.
        split, domains: of an accepted pair.
        dropped: the rows of ``dropped.parquet`` about the prompt or the pair.
        draws: aligned before misaligned, by round and number.
    """

    prompt_id: str
    generator: str
    result: str
    prompt: str = ""
    split: str = ""
    domains: tuple[str, ...] = ()
    dropped: tuple[DroppedRow, ...] = ()
    draws: tuple[Draw, ...] = ()


def dropped_rows(folder: Path) -> list[DroppedRow]:
    """The rows that a build dropped, by stage and reason; none if it has not written them yet.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / DROPPED
    if not path.is_file():
        return []
    return [
        DroppedRow(*(str(row[name] or "") for name in ("id", "stage", "reason", "detail")))
        for row in parquet_rows(path, ("id", "stage", "reason", "detail"))
    ]


def grouped(rows: Sequence[DroppedRow], examples: int = 3) -> list[DropGroup]:
    """Count dropped rows by stage and reason, in the order of their first appearance."""
    held: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        held.setdefault((row.stage, row.reason), []).append(row.id)
    return [
        DropGroup(stage, reason, len(ids), tuple(ids[:examples]))
        for (stage, reason), ids in held.items()
    ]


def pair_histories(folder: Path, prompt_id: str, generator: str = "") -> list[PairHistory]:
    """The history of a prompt with each generator, or with one.

    Raises:
        UserError: nothing in the folder is about it, or a file is damaged.
    """
    accepted = {row["generator"]: row for row in _accepted(folder, prompt_id)}
    dropped = [
        row
        for row in dropped_rows(folder)
        if row.id == prompt_id or row.id.startswith(f"{prompt_id}:")
    ]
    text = next((str(row["prompt"]) for row in accepted.values()), "")
    found: list[Journalled] = []
    if (folder / JOURNAL).is_file():
        text = text or find_prompt(folder / JOURNAL, prompt_id)
        found = read_journal(folder / JOURNAL, prompt_id, text, thresholds_of(folder))
    generators = [*accepted, *(row.id.partition(":")[2] for row in dropped)]
    generators += [draw.generator for draw in found]
    wanted = [one for one in dict.fromkeys(generators) if not generator or one == generator]
    if len(wanted) > 1 and "" in wanted:
        wanted.remove("")
    if not wanted:
        raise UserError(
            f"nothing is known of {prompt_id}{':' if generator else ''}{generator}",
            where=str(folder),
            mend="misalign-bench show RUN --dropped lists ids; data/pairs holds the accepted ones",
        )
    accept_first = _accepts_first(folder)
    histories = []
    for one in wanted:
        own = [draw for draw in found if draw.generator == one]
        mine = tuple(row for row in dropped if row.id in (prompt_id, f"{prompt_id}:{one}"))
        histories.append(
            _history(
                PairHistory(prompt_id, one, "", text, dropped=mine),
                own,
                accepted.get(one),
                accept_first,
            )
        )
    return histories


def _history(
    bare: PairHistory,
    found: Sequence[Journalled],
    accepted: Mapping[str, Any] | None,
    accept_first: bool,
) -> PairHistory:
    result = "accepted" if accepted else "dropped" if bare.dropped else "unfinished"
    kept = {accepted[f"{kind}_key"] for kind in KINDS} if accepted else set()
    spent = {
        row.detail.partition(":")[0]
        for row in bare.dropped
        if row.reason == Reason.DRAWS_SPENT.value
    }
    outcomes = _outcomes(found, kept, spent, accept_first)
    return replace(
        bare,
        result=result,
        split=str(accepted["split"] or "") if accepted else "",
        domains=tuple(accepted["domains"] or ()) if accepted else (),
        draws=tuple(Draw(draw, outcome) for draw, outcome in zip(found, outcomes, strict=True)),
    )


def _outcomes(
    found: Sequence[Journalled], kept: set[str], spent: set[str], accept_first: bool
) -> Iterator[str]:
    """What became of each draw.

    The files name the accepted draws of an accepted pair and the kind that a dropped pair failed
    at. Otherwise the order tells, where the first that passes is accepted: a draw that was followed
    by another of its kind was rejected, and misaligned draws follow an accepted aligned one.
    """
    kinds = [draw.kind for draw in found]
    for place, draw in enumerate(found):
        if draw.key in kept:
            yield "accepted"
        elif kept or draw.kind in spent or (accept_first and draw.kind in kinds[place + 1 :]):
            yield "rejected"
        elif accept_first and draw.kind == "aligned" and "misaligned" in kinds:
            yield "accepted"
        else:
            yield "undecided"


def _accepted(folder: Path, prompt_id: str) -> Iterator[dict[str, Any]]:
    for path in sorted((folder / PAIRS).glob("*.parquet")):
        yield from parquet_rows(path, _COLUMNS, prompt_id)


def parquet_rows(path: Path, columns: Sequence[str], prompt_id: str = "") -> list[dict[str, Any]]:
    """Rows of a run's Parquet file, all or those of one prompt.

    Raises:
        UserError: the file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = [("prompt_id", "=", prompt_id)] if prompt_id else None
    try:
        table = pq.read_table(path, columns=list(columns), filters=wanted)
    except (OSError, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(f"cannot be read as Parquet: {reason}", where=str(path)) from None
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def thresholds_of(folder: Path) -> Mapping[str, float]:
    """The evaluator's thresholds by dimension: fitted ones, else those of the configuration."""
    try:
        evidence = read_json((folder / EVIDENCE).read_bytes())
        fitted = evidence["evaluator_calibration"]["thresholds"]
        return {str(name): float(value) for name, value in fitted.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        judge = _setting(folder, "judge")
        fixed = judge.get("threshold")
        return {} if fixed is None else dict.fromkeys(("safety", "value", "culture"), float(fixed))


def _accepts_first(folder: Path) -> bool:
    return str(_setting(folder, "respond").get("accept", "first")) == "first"


def _setting(folder: Path, name: str) -> Mapping[str, Any]:
    """One table of the run's configuration, empty if there is none."""
    held = ((read_manifest(folder) or {}).get("settings") or {}).get(name)
    return held if isinstance(held, dict) else {}
