"""Does a judge say the same when the order of its options is swapped? Sampled, with an interval.

A verdict that hangs on the order of what is asked says little about the response (position bias;
Zheng et al. 2023, *Judging LLM-as-a-Judge*, arXiv 2306.05685). A written verdict is asked for again
with its dimensions, and so the fields of its schema, in reverse; a log-probability question with
"no or yes" in place of "yes or no". The flip rate is the share of verdicts that come out different,
over those that came out both times; its interval is Wilson's (1927), so the sample holds at most
one response to a prompt.

Small models move all their probabilities with the order. A threshold is fitted to one order, so the
flip rate then says that the level hangs on the order; ``levelled`` takes the mean shift of each
dimension off first, and says whether the responses are still told apart in the same way.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from misalign_bench.judge.judge import Judge
from misalign_bench.judge.logprob import LogprobJudge
from misalign_bench.judge.structured import StructuredJudge
from misalign_bench.llm.model import Failure, Request
from misalign_bench.records import DIMENSIONS, Answer, Dimension, Pending, Unscored, Verdict

ORDER = "yes or no"
SWAPPED = "no or yes"
SWAPPED_MARK = "+swapped"
"""Behind the template of a swapped question, in the journal."""

_Z = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Asked:
    """A response to judge twice; ``group`` is shared by the responses to one prompt."""

    id: str
    prompt: str
    response: str
    group: str


@dataclass(frozen=True, slots=True)
class FlipRate:
    """How many verdicts changed, of those that came out both times; None without any.

    ``unscored`` are those that did not.
    """

    flips: int
    n: int
    unscored: int
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Consistency:
    """Flip rates of the joint verdict and in each dimension.

    Attributes:
        shift: mean change of the probability of a violation; None for written verdicts.
        levelled: the joint flip rate with the mean shift of each dimension taken off; None too.
    """

    joint: FlipRate
    dimensions: dict[Dimension, FlipRate]
    shift: float | None
    levelled: FlipRate | None

    def as_table(self) -> dict[str, Any]:
        """For JSON, the manifest and the page."""
        rates: dict[str, Any] = {name: asdict(rate) for name, rate in self.dimensions.items()}
        levelled = None if self.levelled is None else asdict(self.levelled)
        rates |= {"shift": self.shift, "levelled": levelled}
        return {"joint": asdict(self.joint), **rates}


async def consistency(
    judge: Judge, asked: Sequence[Asked], settled: Callable[[], None] = lambda: None
) -> Consistency | Pending:
    """Ask for every verdict in both orders and count those that differ.

    Args:
        judge: with the thresholds that it is used with.
        asked: the responses; verdicts that the journal holds are replayed.
        settled: called after each response.

    Returns:
        The flip rates, or ``Pending`` if an answer is missing for now.
    """

    async def both(one: Asked) -> tuple[Verdict | Failure, Verdict | Failure]:
        said = await judge.verdict(
            prompt=one.prompt, response=one.response, dimensions=DIMENSIONS, epoch=0
        )
        again = await swapped(judge, one)
        settled()
        return said, again

    answers = await asyncio.gather(*(both(one) for one in asked))
    pairs: list[tuple[Verdict | None, Verdict | None]] = []
    for one, said in zip(asked, answers, strict=True):
        for answer in said:
            if isinstance(answer, Failure) and not answer.terminal:
                return Pending(one.id, "consistency", detail=f"{answer.kind}: {answer.detail}")
        first, second = (None if isinstance(held, Failure) else held for held in said)
        pairs.append((first, second))
    return _compared(pairs)


async def swapped(judge: Judge, one: Asked) -> Verdict | Failure:
    """The judge's verdict on a response with the order of its options swapped."""
    other: Judge = judge
    if isinstance(judge, LogprobJudge):
        other = _SwappedWords.of(judge)
    elif isinstance(judge, StructuredJudge):
        other = _SwappedFields.of(judge)
    return await other.verdict(
        prompt=one.prompt, response=one.response, dimensions=DIMENSIONS[::-1], epoch=0
    )


def sample(rows: Sequence[Asked], wanted: int, seed: int = 0) -> list[Asked]:
    """At most so many responses, each to another prompt, by their hash: the same in every run."""
    first: dict[str, Asked] = {}
    for row in sorted(rows, key=lambda row: _order(row.id, seed)):
        first.setdefault(row.group, row)
    return sorted(first.values(), key=lambda row: _order(row.group, seed))[:wanted]


def flip_rate(flips: int, n: int, unscored: int = 0) -> FlipRate:
    """The share with its 95% interval by Wilson's score method."""
    if not n:
        return FlipRate(0, 0, unscored, None, None, None)
    share, weight = flips / n, _Z**2 / n
    middle = share + weight / 2
    spread = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    low = max(0.0, (middle - spread) / (1 + weight)) if flips else 0.0
    high = min(1.0, (middle + spread) / (1 + weight)) if flips < n else 1.0
    return FlipRate(flips, n, unscored, share, low, high)


class _SwappedFields(StructuredJudge):
    """Asks for the dimensions in the order it is given; told apart in the journal."""

    @classmethod
    def of(cls, judge: StructuredJudge) -> _SwappedFields:
        """The swapped form of a judge."""
        return cls(judge._client, judge._role, judge._sampling)

    def _request(
        self, prompt: str, response: str, dimensions: tuple[Dimension, ...], epoch: int
    ) -> Request:
        asked = super()._request(prompt, response, dimensions, epoch)
        return replace(asked, template=f"{asked.template}{SWAPPED_MARK}")


class _SwappedWords(LogprobJudge):
    """Asks the same questions with the options in the other order."""

    @classmethod
    def of(cls, judge: LogprobJudge) -> _SwappedWords:
        """The swapped form of a judge, under its thresholds."""
        return cls(judge._client, judge._role, judge.framing, judge.thresholds)

    def _request(self, prompt: str, response: str, dimension: Dimension) -> Request:
        asked = super()._request(prompt, response, dimension)
        # Only the instruction: the prompt and the response may hold these words too.
        head, *rest = asked.messages
        if ORDER not in head.content:
            raise ValueError(f"{asked.template} does not offer {ORDER!r} in its first message")
        head = replace(head, content=head.content.replace(ORDER, SWAPPED))
        return replace(asked, messages=(head, *rest), template=f"{asked.template}{SWAPPED_MARK}")


def _compared(pairs: Sequence[tuple[Verdict | None, Verdict | None]]) -> Consistency:
    both = [(one, other) for one, other in pairs if one is not None and other is not None]
    lost = len(pairs) - len(both)
    joint = [(one.joint, other.joint) for one, other in both]
    answers = {
        dimension: [(one.answers[dimension], other.answers[dimension]) for one, other in both]
        for dimension in DIMENSIONS
    }
    shifts = {dimension: mean_shift(rows) for dimension, rows in answers.items()}
    known = [shift for shift in shifts.values() if shift is not None]
    taken_off = [(one.joint, _levelled(other, shifts).joint) for one, other in both]
    return Consistency(
        joint=_rate(joint, lost),
        dimensions={
            dimension: _rate([(flag_of(one), flag_of(other)) for one, other in rows], lost)
            for dimension, rows in answers.items()
        },
        shift=sum(known) / len(known) if known else None,
        levelled=_rate(taken_off, lost) if known else None,
    )


def mean_shift(rows: Sequence[tuple[Answer | Unscored, Answer | Unscored]]) -> float | None:
    """How far the probability of a violation moved in the mean."""
    moves = [
        other.score - one.score
        for one, other in rows
        if isinstance(one, Answer) and isinstance(other, Answer)
        if one.score is not None and other.score is not None
    ]
    return sum(moves) / len(moves) if moves else None


def _levelled(verdict: Verdict, shifts: Mapping[Dimension, float | None]) -> Verdict:
    """The verdict as it would be had no probability moved in the mean."""

    def settled(answer: Answer | Unscored, shift: float | None) -> Answer | Unscored:
        if isinstance(answer, Unscored) or shift is None:
            return answer
        if answer.score is None or answer.threshold is None:
            return answer
        return replace(answer, flagged=answer.score - shift > answer.threshold)

    return replace(
        verdict,
        answers={
            dimension: settled(answer, shifts[dimension])
            for dimension, answer in verdict.answers.items()
        },
    )


def _rate(rows: Sequence[tuple[bool | Unscored, bool | Unscored]], lost: int) -> FlipRate:
    known = [
        (one, other) for one, other in rows if isinstance(one, bool) and isinstance(other, bool)
    ]
    flips = sum(one != other for one, other in known)
    return flip_rate(flips, len(known), len(rows) - len(known) + lost)


def flag_of(answer: Answer | Unscored) -> bool | Unscored:
    """Whether an answer is a flag; what has none stays what it is."""
    return answer.flagged if isinstance(answer, Answer) else answer


def _order(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:consistency:{name}".encode()).digest()
