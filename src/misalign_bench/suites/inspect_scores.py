"""Items and verdicts as metadata of inspect_ai's samples, and our metrics over them.

inspect_ai keeps what a sample knows as JSON. An item and its verdict are written into it here and
read back, so that the numbers come from ``bench.metrics`` and nowhere else. It holds for every
item and epoch: a verdict that is missing counts as wrong (contract, section 3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from misalign_bench.records import DIMENSIONS, Answer, Dimension, Item, Reason, Unscored, Verdict

_FIELDS = tuple(field.name for field in fields(Item))


@dataclass(frozen=True, slots=True)
class Found:
    """A sample's verdict as inspect_ai's ``Score`` shows it.

    Attributes:
        answer: ``flagged``, ``passed`` or ``unscored``, jointly.
        reason: why it is unscored, else empty.
        explanation: what the model said for each dimension.
        metadata: the verdict, and the reasons of what is unscored, by dimension.
    """

    answer: str
    reason: str
    explanation: str
    metadata: dict[str, Any]


def facts_of(item: Item, asked: tuple[Dimension, ...]) -> dict[str, Any]:
    """An item as metadata of a sample, and the dimensions that are asked about."""
    return asdict(item) | {"asked": list(asked)}


def item_of(metadata: Mapping[str, Any]) -> Item:
    """The item in the metadata of a sample."""
    facts = {name: metadata[name] for name in _FIELDS}
    texts = {name: tuple(value) for name, value in facts.items() if isinstance(value, list | tuple)}
    return Item(**(facts | texts))


def told(verdict: Verdict) -> dict[str, Any]:
    """A verdict as metadata of a sample; ``unscored`` holds the reasons by dimension."""
    return {
        "verdict": {name: _table(answer) for name, answer in verdict.answers.items()},
        "unscored": {
            name: answer.reason.value
            for name, answer in verdict.answers.items()
            if isinstance(answer, Unscored)
        },
    }


def read(metadata: Mapping[str, Any]) -> Found:
    """The verdict in the metadata of a sample; without one its call was given up."""
    if "verdict" in metadata:
        verdict = _verdict(metadata["verdict"])
    else:
        verdict = Verdict(dict.fromkeys(metadata["asked"], Unscored(Reason.TRANSPORT)))
    joint = verdict.joint
    word = "unscored" if isinstance(joint, Unscored) else "flagged" if joint else "passed"
    return Found(
        answer=word,
        reason=joint.reason.value if isinstance(joint, Unscored) else "",
        explanation="\n".join(f"{name}: {_said(one)}" for name, one in verdict.answers.items()),
        metadata=told(verdict),
    )


def rates_of(scores: Iterable[Any]) -> dict[str, float]:
    """Our metrics over inspect_ai's scores of every item and epoch.

    Returns:
        ``alignment_score``, ``coverage``, ``false_failure_rate``, jointly and with the dimension
        in front, each only where there are items; ``responses`` counts the verdicts behind the
        joint numbers, ``unscored`` their share without an answer, ``own_items`` the verdicts left
        out because the model wrote the response.
    """
    import numpy as np

    from misalign_bench.bench.metrics import metrics
    from misalign_bench.bench.table import ItemTable, VerdictTable

    row_of: dict[str, int] = {}
    items: list[Item] = []
    own: list[bool] = []
    epochs: list[int] = []
    verdicts: list[tuple[int, int, Verdict]] = []
    for one in scores:
        item = item_of(one.sample_metadata)
        row = row_of.setdefault(item.item_id, len(items))
        if row == len(items):
            items.append(item)
            own.append(bool(one.score.metadata["own"]))
            epochs.append(0)
        verdicts.append((row, epochs[row], _verdict(one.score.metadata["verdict"])))
        epochs[row] += 1
    if not items:
        return {}
    counted = metrics(ItemTable.of(items), VerdictTable.of(verdicts), np.array(own, dtype=bool))
    joint = counted.rates["joint",]
    found = _cell("", joint)
    for dimension in DIMENSIONS:
        cell = counted.rates.get(("dimension", dimension))
        found |= _cell(f"{dimension}_", cell) if cell else {}
    both = (joint.coverage, joint.false_failure_rate)
    responses = sum(share.total for share in both)
    unscored = sum(int(share.unscored.sum()) for share in both)
    found |= {"responses": responses, "unscored": unscored / responses if responses else 0.0}
    return found | {"own_items": len(verdicts) - responses}


def _cell(front: str, cell: Any) -> dict[str, float]:
    """The numbers of a cell that has items."""
    from misalign_bench.bench.metrics import alignment_score

    coverage, alarms = cell.coverage.value, cell.false_failure_rate.value
    both = coverage is not None and alarms is not None
    numbers = {
        "alignment_score": alignment_score(coverage, alarms) if both else None,
        "coverage": coverage,
        "false_failure_rate": alarms,
    }
    return {f"{front}{name}": value for name, value in numbers.items() if value is not None}


def _table(answer: Answer | Unscored) -> dict[str, Any]:
    if isinstance(answer, Unscored):
        return {"unscored": answer.reason.value, "detail": answer.detail}
    return asdict(answer)


def _verdict(table: Mapping[str, Mapping[str, Any]]) -> Verdict:
    answers: dict[Dimension, Answer | Unscored] = {}
    for dimension in DIMENSIONS:
        given = table.get(dimension)
        if given is None:
            continue
        if "unscored" in given:
            answers[dimension] = Unscored(Reason(given["unscored"]), given["detail"])
        else:
            answers[dimension] = Answer(**given)
    return Verdict(answers)


def _said(answer: Answer | Unscored) -> str:
    if isinstance(answer, Unscored):
        return f"unscored ({answer.reason.value}) {answer.detail}".rstrip()
    word = "violates" if answer.flagged else "does not violate"
    probability = "" if answer.score is None else f" (p = {answer.score:.3f})"
    return f"{word}{probability} {answer.reason}".rstrip()
