"""Every response of a build that its evaluator judged: what is in the data set, and what is not.

What the data set holds comes from its files, with the evaluator's answers; every other draw comes
from the journal, with the verdict that was given on it, in one pass over the draws and one over the
verdicts. A draw that a free rule rejected was never judged; it is counted and left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from misalign_bench.build.history import PAIRS, parquet_rows, thresholds_of
from misalign_bench.build.history_journal import (
    Journalled,
    Said,
    draw_of,
    judged_texts,
    prompt_of,
    said_by,
)
from misalign_bench.build.ingest import content_id
from misalign_bench.errors import UserError
from misalign_bench.journal.folder import JOURNAL
from misalign_bench.journal.store import Entry, Journal
from misalign_bench.judge.consistency import SWAPPED_MARK
from misalign_bench.prompts.visible import visible
from misalign_bench.records import DIMENSIONS, KINDS, Dimension, Kind

_COLUMNS = (
    *("prompt_id", "prompt", "cluster_id", "split", "generator", "evaluator", "simulated"),
    *(f"{kind}{part}" for kind in KINDS for part in ("", "_key", "_violated", "_verdict_keys")),
)
_Texts = tuple[str, str]
_Form = tuple[str, str]


@dataclass(frozen=True, slots=True)
class JudgedDraw:
    """One response and what the evaluator said about it.

    Attributes:
        key: of the draw in the journal.
        cluster_id: near-duplicate cluster of the prompt; the prompt's id where no pair of it was
            accepted, so that no file names its cluster.
        split: empty where no file names it.
        accepted: whether it is in the data set.
        flagged: by dimension; None where the evaluator gave no verdict.
    """

    key: str
    prompt_id: str
    cluster_id: str
    split: str
    prompt: str
    response: str
    generator: str
    kind: Kind
    accepted: bool
    flagged: Mapping[Dimension, bool | None]

    @property
    def item_id(self) -> str:
        """The name of an accepted response as a benchmark item."""
        return f"{self.prompt_id}:{self.generator}:{self.kind}"


@dataclass(frozen=True, slots=True)
class JudgedDraws:
    """All of them, accepted ones first.

    Attributes:
        unjudged: draws without a verdict: a free rule rejected them, or the call failed.
        evaluators: models that gave the verdicts.
        simulated: whether a simulated model wrote or judged any part of the data set.
    """

    draws: tuple[JudgedDraw, ...]
    unjudged: int
    evaluators: tuple[str, ...]
    simulated: bool


def judged_draws(folder: Path) -> JudgedDraws:
    """Read a finished build.

    Raises:
        UserError: it holds no data set, or a file is damaged.
    """
    rows = list(_pairs(folder))
    accepted = [_accepted(row, kind) for row in rows for kind in KINDS]
    others: list[JudgedDraw] = []
    unjudged = 0
    if (folder / JOURNAL).is_file():
        others, unjudged = _others(folder, rows, {draw.key for draw in accepted})
    return JudgedDraws(
        draws=(*accepted, *others),
        unjudged=unjudged,
        evaluators=tuple(sorted({str(row["evaluator"]) for row in rows})),
        simulated=any(row["simulated"] for row in rows),
    )


def _pairs(folder: Path) -> Iterator[dict[str, Any]]:
    files = sorted((folder / PAIRS).glob("*.parquet"))
    if not files:
        what = f"there is no {PAIRS} in it" if folder.is_dir() else "no such folder"
        raise UserError(what, where=str(folder), mend="Name the --out folder of a finished build")
    for file in files:
        yield from parquet_rows(file, _COLUMNS)


def _accepted(row: Mapping[str, Any], kind: Kind) -> JudgedDraw:
    violated = row[f"{kind}_violated"] or {}
    return JudgedDraw(
        key=str(row[f"{kind}_key"]),
        prompt_id=str(row["prompt_id"]),
        cluster_id=str(row["cluster_id"]),
        split=str(row["split"] or ""),
        prompt=str(row["prompt"]),
        response=str(row[kind]),
        generator=str(row["generator"]),
        kind=kind,
        accepted=True,
        flagged={dimension: violated.get(dimension) for dimension in DIMENSIONS},
    )


def _others(
    folder: Path, rows: list[dict[str, Any]], accepted: set[str]
) -> tuple[list[JudgedDraw], int]:
    """The judged draws that are not in the data set, and how many draws were never judged."""
    known = {str(row["prompt"]).strip(): row for row in rows}
    keys = {key for row in rows for kind in KINDS for key in row[f"{kind}_verdict_keys"] or ()}
    with Journal.open(folder / JOURNAL, read_only=True) as journal:
        found = [
            (draw_of(entry), prompt_of(entry))
            for entry in journal.entries(role="generator")
            if entry.key not in accepted
        ]
        wanted = {(_plain(prompt), _plain(draw.text)) for draw, prompt in found if draw.text}
        forms = {
            form
            for key in sorted(keys)[:1]
            if (entry := journal.get(key)) is not None and (form := _form(entry))
        }
        said = _verdicts(journal, wanted, thresholds_of(folder), forms)
    judged = []
    for draw, prompt in found:
        flagged = said.get((_plain(prompt), _plain(draw.text)))
        if flagged is not None and draw.kind in KINDS:
            judged.append(_other(draw, prompt, known.get(prompt.strip(), {}), flagged))
    return sorted(judged, key=lambda one: one.key), len(found) - len(judged)


def _other(
    draw: Journalled,
    prompt: str,
    row: Mapping[str, Any],
    flagged: Mapping[Dimension, bool | None],
) -> JudgedDraw:
    prompt_id = str(row.get("prompt_id") or content_id(prompt))
    return JudgedDraw(
        key=draw.key,
        prompt_id=prompt_id,
        cluster_id=str(row.get("cluster_id") or prompt_id),
        split=str(row.get("split") or ""),
        prompt=str(row.get("prompt") or prompt),
        response=draw.text,
        generator=draw.generator,
        kind=cast(Kind, draw.kind),
        accepted=False,
        flagged=flagged,
    )


def _verdicts(
    journal: Journal,
    wanted: set[_Texts],
    thresholds: Mapping[str, float],
    forms: set[_Form],
) -> dict[_Texts, dict[Dimension, bool | None]]:
    """What the evaluator said about these prompts and responses, by dimension.

    Only verdicts of the model and template behind the data set count, if these are known: a journal
    may hold those of an earlier evaluator too.
    """
    found: dict[_Texts, dict[Dimension, bool | None]] = {}
    for entry in journal.entries(role="evaluator"):
        if SWAPPED_MARK in entry.template or (forms and _form(entry) not in forms):
            continue
        texts = _asked_about(entry, wanted)
        if texts is not None:
            answers = found.setdefault(texts, dict.fromkeys(DIMENSIONS))
            answers.update(_by_dimension(said_by(entry, thresholds)))
    return found


def _form(entry: Entry) -> _Form:
    return entry.model, entry.template


def _asked_about(entry: Entry, wanted: set[_Texts]) -> _Texts | None:
    """Which of the wanted prompts and responses a verdict is about, quoted or not."""
    prompt, response = judged_texts(str(entry.request["messages"][-1][1]))
    for texts in (
        (_plain(prompt), _plain(response)),
        (_plain(_unquoted(prompt)), _plain(_unquoted(response))),
    ):
        if texts in wanted:
            return texts
    return None


def _plain(text: str) -> str:
    """A text as a judge is shown it, by which a draw and its verdict are matched."""
    return visible(text.strip()).strip()


def _unquoted(text: str) -> str:
    return "\n".join(line.removeprefix("> ") for line in text.splitlines())


def _by_dimension(said: Iterator[Said]) -> dict[Dimension, bool | None]:
    answers = {one.dimension: one.flagged for one in said}
    return {dimension: answers[dimension] for dimension in DIMENSIONS if dimension in answers}
