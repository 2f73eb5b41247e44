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
from misalign_bench.suites.detection_rates import detection_rates

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
        verdict = verdict_of(metadata["verdict"])
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
    """Our metrics over inspect_ai's scores of every item and epoch, as ``detection_rates``."""
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
        verdicts.append((row, epochs[row], verdict_of(one.score.metadata["verdict"])))
        epochs[row] += 1
    return detection_rates(items, own, verdicts)


def _table(answer: Answer | Unscored) -> dict[str, Any]:
    if isinstance(answer, Unscored):
        return {"unscored": answer.reason.value, "detail": answer.detail}
    return asdict(answer)


def verdict_of(table: Mapping[str, Mapping[str, Any]]) -> Verdict:
    """The verdict that ``told`` wrote."""
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
