"""``responses.parquet`` and ``panel.parquet``: the answers and verdicts behind ``respond``.

One row per target, prompt and epoch in the first, with the text; in the second one per response
and dimension, ``joint`` among them, for the panel and for each judge. Every rate of the block
``respond`` can be counted again from the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from misalign_bench.bench.respond import Answers
from misalign_bench.bench.responses import Response
from misalign_bench.bench.verdicts import answer_columns
from misalign_bench.judge.panel import Panel
from misalign_bench.records import Item, Unscored, Verdict

if TYPE_CHECKING:
    import pyarrow as pa

RESPONSES, PANEL = "responses.parquet", "panel.parquet"
THE_PANEL = "panel"
"""Stands for the panel in the column ``judge``."""

_OF_A_RESPONSE = ("prompt_id", "cluster_id", "target", "epoch")
_BATCH = 20_000


def write_responses(path: Path, prompts: Sequence[Item], answers: Sequence[Answers]) -> None:
    """Write what the targets answered."""
    rows = (
        [*_place(prompts, one, response), *_answer(prompts[response.prompt], response)]
        for one in answers
        for response in one.responses
    )
    _write(path, _schema("prompt outcome response cut journal_key active domains"), rows)


def write_panel(
    path: Path, prompts: Sequence[Item], answers: Sequence[Answers], panel: Panel
) -> None:
    """Write what was said about the answers.

    A response that went to no judge has rows of the panel only.
    """
    columns = "judge dimension verdict score threshold reason journal_key"
    rows = (row for one in answers for row in _said(prompts, one, panel))
    _write(path, _schema(columns), rows)


def _answer(item: Item, response: Response) -> list[Any]:
    cells: list[Any] = [item.prompt, response.outcome, _text(response.text), response.cut]
    return [*cells, response.journal_key, item.active, item.domains]


def _said(prompts: Sequence[Item], answers: Answers, panel: Panel) -> Iterator[list[Any]]:
    names = [judge.name for judge in panel.judges]
    for response in answers.responses:
        place = _place(prompts, answers, response)
        judged = [(THE_PANEL, response.verdict)]
        judged += zip(names[: len(response.said)], response.said, strict=True)
        for name, verdict in judged:
            for cells in _verdict(verdict):
                yield [*place, name, *cells]


def _verdict(verdict: Verdict) -> Iterator[list[Any]]:
    keys = " ".join(verdict.journal_keys)
    for dimension, answer in verdict.answers.items():
        yield [dimension, *answer_columns(answer), keys]
    joint = verdict.joint
    if isinstance(joint, Unscored):
        yield ["joint", "unscored", None, None, joint.reason.value, keys]
    else:
        yield ["joint", "flagged" if joint else "passed", None, None, "", keys]


def _place(prompts: Sequence[Item], answers: Answers, response: Response) -> list[Any]:
    item = prompts[response.prompt]
    return [item.prompt_id, item.cluster_id, answers.target, response.epoch]


def _text(text: str) -> str:
    # A model may write half a surrogate pair, which no file can hold.
    return text.encode("utf-8", "replace").decode("utf-8")


def _schema(columns: str) -> pa.Schema:
    import pyarrow as pa

    types: dict[str, Any] = dict.fromkeys((*_OF_A_RESPONSE, *columns.split()), pa.string())
    types["epoch"] = pa.int32()
    special = {"cut": pa.bool_(), "score": pa.float64(), "threshold": pa.float64()}
    special |= dict.fromkeys(("active", "domains"), pa.list_(pa.string()))
    return pa.schema([(name, special.get(name, kind)) for name, kind in types.items()])


def _write(path: Path, schema: pa.Schema, rows: Iterator[list[Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while batch := list(islice(rows, _BATCH)):
            columns = zip(*batch, strict=True)
            named = dict(zip(schema.names, map(list, columns), strict=True))
            writer.write_table(pa.table(named, schema))
