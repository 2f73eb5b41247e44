"""``verdicts.parquet``: every answer behind the numbers (contract, section 5).

One row per item, epoch and dimension asked, and one with dimension ``joint``. The columns up to
``journal_key`` are the contract's; the five after it (``EXTRA_COLUMNS``) are what a reader needs to
recompute every cell of ``results.json`` from this file alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from misalign_bench.bench.detect import Measurement
from misalign_bench.bench.judged import Judged
from misalign_bench.bench.table import FLAGGED, PASSED, UNSCORED, joint, outcome
from misalign_bench.records import DIMENSIONS, Answer, Item, Unscored

COLUMNS = (
    "item_id",
    "prompt_id",
    "cluster_id",
    "target",
    "condition",
    "framing",
    "epoch",
    "dimension",
    "truth",
    "verdict",
    "score",
    "threshold",
    "reason",
    "journal_key",
)
EXTRA_COLUMNS = ("generator", "active", "domains", "intended_domains", "own")

_WORDS = {FLAGGED: "flagged", PASSED: "passed", UNSCORED: "unscored"}
_BATCH = 5_000


def write_verdicts(path: Path, items: Sequence[Item], measurements: Sequence[Measurement]) -> None:
    """Write the file in one piece or not at all.

    ``truth`` is true, false or null (unknown); in a joint row it says whether the response is
    misaligned. ``reason`` is the reason code of an unscored row, else the target's own words.
    ``journal_key`` of a joint row lists all keys of its verdict, separated by spaces.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    part = path.with_name(path.name + ".part")
    schema = _schema()
    try:
        with pq.ParquetWriter(part, schema, compression="zstd") as writer:
            for measurement in measurements:
                verdicts = iter(measurement.judged)
                while batch := list(islice(verdicts, _BATCH)):
                    rows = [row for judged in batch for row in _rows(items, measurement, judged)]
                    columns = dict(zip(schema.names, zip(*rows, strict=True), strict=True))
                    writer.write_table(pa.table({k: list(v) for k, v in columns.items()}, schema))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _schema() -> Any:
    import pyarrow as pa

    text, texts = pa.string(), pa.list_(pa.string())
    types = dict.fromkeys((*COLUMNS, *EXTRA_COLUMNS), text)
    types |= {"epoch": pa.int32(), "truth": pa.bool_(), "own": pa.bool_()}
    types |= {"score": pa.float64(), "threshold": pa.float64()}
    types |= {"active": texts, "domains": texts, "intended_domains": texts}
    return pa.schema(list(types.items()))


def _rows(items: Sequence[Item], measurement: Measurement, judged: Judged) -> Iterator[list[Any]]:
    """The rows of one verdict, the joint one last, in the order of the columns."""
    item, verdict = items[judged.item], judged.verdict
    before: list[Any] = [item.item_id, item.prompt_id, item.cluster_id]
    before += [measurement.target, measurement.condition, measurement.framing, judged.epoch]
    after = [
        item.generator,
        item.active,
        item.domains,
        item.intended_domains,
        measurement.own[judged.item],
    ]
    asked = [dimension for dimension in DIMENSIONS if dimension in verdict.answers]
    keys = verdict.journal_keys
    for position, dimension in enumerate(asked):
        # One call per dimension has one key each; one call for all has one.
        key = keys[position] if len(keys) == len(asked) else " ".join(keys)
        answer = answer_columns(verdict.answers[dimension])
        yield [*before, dimension, item.violated.get(dimension), *answer, key, *after]
    together = joint([outcome(verdict.answers[dimension]) for dimension in asked])
    reason = ""
    if together == UNSCORED:
        answers = (verdict.answers[dimension] for dimension in asked)
        reason = next(one.reason.value for one in answers if isinstance(one, Unscored))
    joint_answer = [_WORDS[together], None, None, reason]
    yield [*before, "joint", item.misaligned, *joint_answer, " ".join(keys), *after]


def answer_columns(answer: Answer | Unscored) -> list[Any]:
    """The columns ``verdict, score, threshold, reason``."""
    word = _WORDS[outcome(answer)]
    if isinstance(answer, Unscored):
        return [word, None, None, answer.reason.value]
    # A model may write half a surrogate pair, which no file can hold.
    words = answer.reason.encode("utf-8", "replace").decode("utf-8")
    return [word, answer.score, answer.threshold, words]
