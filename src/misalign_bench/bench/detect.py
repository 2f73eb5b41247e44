"""Stage II, ``detect``: does the target see that a response is misaligned? (paper: benchmark).

Each target is shown a prompt and a response, without labels or reference, and answers for every
dimension asked whether the response violates it. Condition ``joint`` asks all three; a condition
named after a dimension asks that one only. One verdict is one (item, epoch).

A verdict that the outside world withheld is ``Pending``; the others are finished first. Accepted
failures (``Failure.terminal``) are unscored verdicts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from misalign_bench.bench.judged import Judged, JudgedLog
from misalign_bench.bench.workers import share_out
from misalign_bench.errors import OutsideWorld, UserError
from misalign_bench.judge.judge import Judge
from misalign_bench.llm.model import Failure
from misalign_bench.records import (
    DIMENSIONS,
    Answer,
    Condition,
    Dimension,
    Item,
    Pending,
    Reason,
    Unscored,
    Verdict,
)

Progress = Callable[[int, int], None]
"""Called with (verdicts settled, verdicts in all) after each one."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one target said about the items under one condition.

    Attributes:
        epochs: how many epochs were asked, 1 for a deterministic target.
        own: for each item, whether the target's own weights wrote its response.
    """

    target: str
    weights: str
    condition: Condition
    framing: str
    thresholds: Mapping[Dimension, float] | None
    deterministic: bool
    epochs: int
    judged: Sequence[Judged]
    own: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Detection:
    """All measurements of a run, and the verdicts that are still missing."""

    measurements: tuple[Measurement, ...]
    pending: tuple[Pending, ...] = ()

    def refuse_pending(self) -> None:
        """Stop where a number would rest on some of the verdicts only.

        Raises:
            OutsideWorld: verdicts are missing.
        """
        if self.pending:
            first = self.pending[0]
            raise OutsideWorld(
                f"{len(self.pending)} verdicts have no answer yet, the first: {first.detail}",
                where=first.id,
                mend="Run the same command again to continue, or add --accept-failures",
            )


async def detect(
    items: Sequence[Item],
    targets: Sequence[Judge],
    conditions: Sequence[Condition] = ("joint",),
    *,
    epochs: int = 3,
    evaluators: Collection[str] = (),
    weights_of: Mapping[str, str] | None = None,
    allow_shared_roles: bool = False,
    in_flight: int = 256,
    progress: Progress | None = None,
) -> Detection:
    """Ask every target about every item.

    Targets are asked side by side; those that run in this process one after another, since two
    models would only compete for its cores.

    Args:
        items: what to judge.
        targets: the models under test.
        conditions: which dimensions one question covers.
        epochs: how often a target that samples is asked.
        evaluators: names of the models that decided what is true of the items.
        weights_of: weights of the generators and evaluators by name; by default a name stands for
            itself.
        allow_shared_roles: let an evaluator be a target.
        in_flight: how many verdicts are awaited at once; the client limits the calls below it.
        progress: told after each verdict.

    Returns:
        A measurement per (target, condition), in this order, its verdicts by (item, epoch).

    Raises:
        UserError: no items, the evaluator as a target, the same measurement twice.
        OutsideWorld: a failure that stops every call, such as a wrong key.
    """
    _refuse(items, targets, conditions)
    if not allow_shared_roles:
        _refuse_evaluators(targets, evaluators, weights_of or {})
    rounds = [
        _Round(items, target, condition, 1 if target.deterministic else epochs)
        for target in targets
        for condition in conditions
    ]
    settled, total = 0, sum(one.total for one in rounds)

    def settle() -> None:
        nonlocal settled
        settled += 1
        if progress is not None:
            progress(settled, total)

    lanes: dict[str, list[_Round]] = {}
    for one in rounds:
        lanes.setdefault(_lane(one.target), []).append(one)

    async def follow(lane: list[_Round]) -> None:
        for one in lane:
            await one.run(in_flight, settle)

    await share_out(iter(lanes.values()), follow, len(lanes))
    measurements = [one.measurement(own_items(items, one.target, weights_of)) for one in rounds]
    pending = [row for one in rounds for row in sorted(one.pending, key=lambda row: row.id)]
    return Detection(tuple(measurements), tuple(pending))


def own_items(
    items: Sequence[Item], target: Judge, weights_of: Mapping[str, str] | None = None
) -> tuple[bool, ...]:
    """For each item, whether the target's own weights wrote its response."""
    names = {item.generator for item in items}
    own = {name for name in names if name and _same(name, target, weights_of or {})}
    return tuple(item.generator in own for item in items)


def _lane(target: Judge) -> str:
    """Where a target queues: each by itself, those embedded in this process together."""
    return "embedded" if target.name.startswith("embedded/") else target.name


class _Round:
    """One target under one condition, over all items and epochs."""

    def __init__(
        self, items: Sequence[Item], target: Judge, condition: Condition, epochs: int
    ) -> None:
        self.items, self.target, self.condition, self.epochs = items, target, condition, epochs
        self.dimensions = DIMENSIONS if condition == "joint" else (condition,)
        self.total = len(items) * epochs
        self.pending: list[Pending] = []
        self._judged = JudgedLog()

    async def run(self, in_flight: int, settle: Callable[[], None]) -> None:
        """Ask everything, at most ``in_flight`` at once; if one stops the run, stop the others."""
        work = ((item, epoch) for item in range(len(self.items)) for epoch in range(self.epochs))
        await share_out(work, self._ask, min(in_flight, self.total), settle)

    async def _ask(self, piece: tuple[int, int]) -> None:
        row, epoch = piece
        item = self.items[row]
        answered = await self.target.verdict(
            prompt=item.prompt, response=item.response, dimensions=self.dimensions, epoch=epoch
        )
        if isinstance(answered, Verdict):
            self._judged.append(Judged(row, epoch, _complete(answered, self.dimensions)))
        elif answered.fatal:
            raise OutsideWorld(answered.detail, where=self.target.name)
        elif answered.terminal:
            self._judged.append(Judged(row, epoch, lost(answered, self.dimensions)))
        else:
            place = f"{item.item_id} {self.target.name} {self.condition} epoch {epoch}"
            detail = f"{answered.kind}: {answered.detail}"
            self.pending.append(Pending(place, "detect", detail=detail))

    def measurement(self, own: tuple[bool, ...]) -> Measurement:
        """What came back, in the order of items and epochs."""
        target = self.target
        return Measurement(
            target=target.name,
            weights=target.weights,
            condition=self.condition,
            framing=target.framing,
            thresholds=target.thresholds,
            deterministic=target.deterministic,
            epochs=self.epochs,
            judged=self._judged,
            own=own,
        )


def _refuse(items: Sequence[Item], targets: Sequence[Judge], conditions: Sequence[str]) -> None:
    """Stop before the first call if there is nothing to ask, or something to ask twice."""
    if not items:
        raise UserError("there are no items to judge")
    if not targets or not conditions:
        raise UserError("there is no target or no condition", mend="Name one: --target")
    named = [f"target {target.name} with framing {target.framing}" for target in targets]
    named += [f"condition {condition}" for condition in conditions]
    for name in named:
        if named.count(name) > 1:
            raise UserError(f"{name} is given twice", mend="Name it once")


def _refuse_evaluators(
    targets: Sequence[Judge], evaluators: Collection[str], weights_of: Mapping[str, str]
) -> None:
    for target in targets:
        if any(_same(evaluator, target, weights_of) for evaluator in evaluators if evaluator):
            raise UserError(
                "the evaluator decided what is true of these items and cannot be a target",
                where=target.name,
                mend="Allow it, and the result is marked: allow_shared_roles: true",
            )


def _same(name: str, target: Judge, weights_of: Mapping[str, str]) -> bool:
    """Whether a named model has the target's weights."""
    return weights_of.get(name, name) == target.weights or name == target.name


def _complete(verdict: Verdict, dimensions: tuple[Dimension, ...]) -> Verdict:
    """Every dimension asked has an answer and no other has: what was left out is unscored."""
    if tuple(verdict.answers) == dimensions:
        return verdict
    missing = Unscored(Reason.SCHEMA, "no answer in this dimension")
    answers: dict[Dimension, Answer | Unscored] = {
        dimension: verdict.answers.get(dimension, missing) for dimension in dimensions
    }
    return Verdict(answers, verdict.journal_keys)


def lost(failure: Failure, dimensions: tuple[Dimension, ...]) -> Verdict:
    """A verdict that was given up: unscored in every dimension."""
    unscored = Unscored(Reason.TRANSPORT, f"{failure.kind}: {failure.detail}")
    return Verdict(dict.fromkeys(dimensions, unscored))
