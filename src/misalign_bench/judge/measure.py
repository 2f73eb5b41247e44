"""Measure one form of verdict on the calibration set.

The verdicts are held out: thresholds are fitted on four fifths of the twins (the two responses to a
prompt) and applied to the last, as ``judge.calibration`` does. ``judge.figures`` says how good they
are.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from misalign_bench.config import JudgeSettings
from misalign_bench.judge.calibration import (
    CalibrationItem,
    Scored,
    cross_validated,
    fit,
    scored_item,
)
from misalign_bench.judge.figures import Figure, Judged, Point, by_dimension, curve, figures
from misalign_bench.judge.judge import Judge, make_judge
from misalign_bench.judge.logprob import LogprobJudge
from misalign_bench.llm.client import Client
from misalign_bench.llm.model import Failure
from misalign_bench.records import (
    DIMENSIONS,
    Answer,
    Dimension,
    Pending,
    Reason,
    Unscored,
    Verdict,
)

Form = Literal["structured", "satisfies", "violates", "few_shot"]
FORMS: tuple[Form, ...] = ("structured", "satisfies", "violates", "few_shot")
"""Simplest first: nothing to fit; a threshold to fit, where asking what holds comes before asking
what is violated (small models lean better that way); a threshold, and six worked examples."""

NO_LOGPROBS = "it gives no log-probabilities"

_GRADES = 4


@dataclass(frozen=True, slots=True)
class Measured:
    """One form of verdict, measured.

    Attributes:
        judged: the verdict on every item, in the order of the set.
        figures: ``auc`` (over items with a verdict), ``coverage``, ``false_failure_rate``,
            ``alignment_score``; a missing verdict counts as wrong.
        per_dimension: the same of the items of each dimension, without intervals.
        unscored: items without a verdict, by reason.
        thresholds: fitted on all items; None for a written verdict.
        fitted: ``global`` or ``per_dimension``; empty for a written verdict.
        curve: by threshold; empty for a written verdict.
        cannot: why the model cannot be asked this way; empty if it can.
    """

    form: Form
    template: str = ""
    judged: tuple[Judged, ...] = ()
    figures: Mapping[str, Figure] = field(default_factory=dict)
    per_dimension: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    unscored: Mapping[str, int] = field(default_factory=dict)
    thresholds: Mapping[Dimension, float] | None = None
    fitted: str = ""
    curve: tuple[Point, ...] = ()
    cannot: str = ""

    @property
    def score(self) -> float:
        """The Alignment Score."""
        return self.figures["alignment_score"].value or 0.0

    def as_table(self) -> dict[str, Any]:
        """For JSON."""
        if self.cannot:
            return {"form": self.form, "cannot": self.cannot}
        return {
            "form": self.form,
            "template": self.template,
            "items": len(self.judged),
            "unscored": dict(self.unscored),
            "figures": {name: asdict(one) for name, one in self.figures.items()},
            "per_dimension": {name: dict(row) for name, row in self.per_dimension.items()},
            "fitted": self.fitted,
            "thresholds": None if self.thresholds is None else dict(self.thresholds),
            "curve": [asdict(point) for point in self.curve],
        }


async def measure(
    client: Client,
    form: Form,
    items: Sequence[CalibrationItem],
    settings: JudgeSettings | None = None,
    settled: Callable[[], None] = lambda: None,
) -> Measured | Pending:
    """Ask a model about every item in this form, and say how good its verdicts are.

    Args:
        client: the model.
        form: a written verdict, or a wording of the log-probability question.
        items: labelled responses, whole twins.
        settings: sampling of a written verdict.
        settled: called after each item.

    Returns:
        The figures, or ``Pending`` if an answer is missing for now.
    """
    if form != "structured" and not client.model.capabilities.options:
        return Measured(form, cannot=NO_LOGPROBS)
    judge = judge_in(client, form, settings or JudgeSettings())
    # One item first: a server may leave log-probabilities out although the protocol has them.
    answers = [await _asked(judge, items[0], settled)]
    if _has_no_logprobs(answers[0]):
        return Measured(form, judge.template, cannot=NO_LOGPROBS)
    answers += await asyncio.gather(*(_asked(judge, item, settled) for item in items[1:]))
    verdicts: list[Verdict | Failure] = []
    for item, answer in zip(items, answers, strict=True):
        if isinstance(answer, Failure) and not answer.terminal:
            return Pending(item.id, "calibrate", detail=f"{answer.kind}: {answer.detail}")
        verdicts.append(answer)
    if isinstance(judge, LogprobJudge):
        return _leaning(form, judge, items, verdicts)
    return _written(form, judge, items, verdicts)


def judge_in(
    client: Client,
    form: Form,
    settings: JudgeSettings,
    thresholds: Mapping[Dimension, float] | None = None,
) -> Judge:
    """The judge that asks in this form, as an evaluator."""
    if form == "structured":
        changes: dict[str, Any] = {"method": "structured"}
    else:
        changes = {"method": "logprob", "framing": form, "threshold": None}
    return make_judge(client, settings.model_copy(update=changes), "evaluator", thresholds)


async def _asked(
    judge: Judge, item: CalibrationItem, settled: Callable[[], None]
) -> Verdict | Failure:
    said = await judge.verdict(
        prompt=item.prompt, response=item.response, dimensions=DIMENSIONS, epoch=0
    )
    settled()
    return said


def _has_no_logprobs(said: Verdict | Failure) -> bool:
    """Whether the server gave none at all, which is no matter of this one response."""
    return isinstance(said, Verdict) and all(
        answer == Unscored(Reason.NO_LOGPROBS) for answer in said.answers.values()
    )


def _leaning(
    form: Form,
    judge: LogprobJudge,
    items: Sequence[CalibrationItem],
    verdicts: Sequence[Verdict | Failure],
) -> Measured:
    """By log-probability: thresholds are fitted, and the verdicts are the held-out ones."""
    read = [_scored_or_not(item, said) for item, said in zip(items, verdicts, strict=True)]
    scored = [one for one in read if isinstance(one, Scored)]
    fitted = fit(judge, scored, unscored=len(read) - len(scored))
    held_out = cross_validated(scored, per_dimension=fitted.form == "per_dimension")
    by_id = {row.item.id: Judged(row.item, flagged, row.joint) for row, flagged in held_out}
    return _measured(
        form,
        judge.template,
        [by_id.get(item.id, Judged(item, None, None)) for item in items],
        Counter(one.reason.value for one in read if isinstance(one, Unscored)),
        fitted.thresholds,
        fitted.form,
    )


def _written(
    form: Form,
    judge: Judge,
    items: Sequence[CalibrationItem],
    verdicts: Sequence[Verdict | Failure],
) -> Measured:
    """By a written verdict: nothing is fitted."""
    judged = []
    unscored: Counter[str] = Counter()
    for item, said in zip(items, verdicts, strict=True):
        joint = said.joint if isinstance(said, Verdict) else Unscored(Reason.TRANSPORT)
        if isinstance(joint, bool) and isinstance(said, Verdict):
            judged.append(Judged(item, joint, _severity(said)))
            continue
        judged.append(Judged(item, None, None))
        unscored.update([joint.reason.value] if isinstance(joint, Unscored) else [])
    return _measured(form, judge.template, judged, unscored, None, "")


def _scored_or_not(item: CalibrationItem, said: Verdict | Failure) -> Scored | Unscored:
    return Unscored(Reason.TRANSPORT) if isinstance(said, Failure) else scored_item(item, said)


def _severity(said: Verdict) -> float:
    """What a written verdict says of the worst dimension: flagged above passed, then severity."""
    return max(grade(answer) for answer in said.answers.values() if isinstance(answer, Answer))


def grade(answer: Answer) -> float:
    """What a written answer says as one number: flagged above passed, then severity."""
    return _GRADES * answer.flagged + (answer.severity or 0)


def _measured(
    form: Form,
    template: str,
    judged: Sequence[Judged],
    unscored: Mapping[str, int],
    thresholds: Mapping[Dimension, float] | None,
    fitted: str,
) -> Measured:
    return Measured(
        form=form,
        template=template,
        judged=tuple(judged),
        figures=figures(judged),
        per_dimension=by_dimension(judged),
        unscored=dict(unscored),
        thresholds=thresholds,
        fitted=fitted,
        curve=curve(judged) if thresholds is not None else (),
    )
