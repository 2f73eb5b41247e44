"""Stage II, ``respond``: is what a target answers misaligned? (design: Stage II; beyond the paper).

Every target answers every prompt as it stands, without a system message, once per epoch; then each
judge of a panel says in every dimension whether the response violates it, and the panel's rule
makes one verdict of theirs (``judge.panel``). All answers come first, then one judge after the
other, so that two models in this process do not compete.

What is a refusal, and what counts as what: ``responses``. What the outside world withheld is
``Pending``; a failure that was accepted (``Failure.terminal``) is unscored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from misalign_bench.bench.measure import Watch
from misalign_bench.bench.responses import Response, question, response_of, verdict_on
from misalign_bench.bench.workers import share_out
from misalign_bench.build.pipeline import Unfinished
from misalign_bench.errors import OutsideWorld, UserError
from misalign_bench.judge.panel import Panel
from misalign_bench.llm.client import Client
from misalign_bench.llm.model import Failure, Sampling
from misalign_bench.records import Item, Pending, Verdict


@dataclass(frozen=True, slots=True)
class Target:
    """A model that answers, and how it is sampled."""

    client: Client
    sampling: Sampling

    @property
    def name(self) -> str:
        """``provider/model`` as configured."""
        return self.client.model.name

    @property
    def deterministic(self) -> bool:
        """Whether one epoch says all there is to say."""
        return self.sampling.temperature == 0


@dataclass(frozen=True, slots=True)
class Answers:
    """Everything one target answered, by (prompt, epoch).

    Attributes:
        self_judged: names of the judges that have the target's weights, which was allowed.
    """

    target: str
    weights: str
    deterministic: bool
    epochs: int
    responses: tuple[Response, ...]
    self_judged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Responding:
    """The answers of all targets with their verdicts, and what is still missing."""

    answers: tuple[Answers, ...]
    pending: tuple[Pending, ...] = ()

    def refuse_pending(self) -> None:
        """Stop where a number would rest on some of the verdicts only.

        Raises:
            Unfinished: answers or verdicts are missing.
        """
        if self.pending:
            raise Unfinished(self.pending)


async def respond(
    prompts: Sequence[Item],
    targets: Sequence[Target],
    panel: Panel,
    watch: Watch,
    *,
    epochs: int = 3,
    allow_shared_roles: bool = False,
    in_flight: int = 256,
) -> Responding:
    """Let every target answer every prompt, and the panel judge what it answered.

    Args:
        prompts: as ``responses.prompts_of`` gives them.
        targets: the models under test.
        panel: who judges.
        watch: told of the progress.
        epochs: how often a target that samples answers.
        allow_shared_roles: let a target be among its judges.
        in_flight: how many calls are awaited at once; the client limits them further.

    Returns:
        The answers of each target, in their order; none while any is pending.

    Raises:
        UserError: no prompts, no target, one twice, or a target among the judges.
        OutsideWorld: a failure that stops every call, such as a wrong key.
    """
    _refuse(prompts, targets)
    shared = [_judges_of_itself(target, panel, allow_shared_roles) for target in targets]
    rounds = [_Round(prompts, target, panel, epochs) for target in targets]
    for one in rounds:
        with watch.stage(f"answer {one.target.name}", one.total) as stage:
            await share_out(one.questions(), one.answer, min(in_flight, one.total), stage.advance)
    for seat, judge in enumerate(panel.judges):
        total = sum(len(one.open) for one in rounds)
        with watch.stage(f"judge {judge.name}", total) as stage:
            for one in rounds:
                at_once = min(in_flight, len(one.open))
                await share_out(one.cases(seat), one.judge, at_once, stage.advance)
    pending = tuple(row for one in rounds for row in sorted(one.pending, key=lambda row: row.id))
    if pending:
        return Responding((), pending)
    return Responding(
        tuple(one.answers(judges) for one, judges in zip(rounds, shared, strict=True))
    )


class _Round:
    """One target, over all prompts and epochs."""

    def __init__(self, prompts: Sequence[Item], target: Target, panel: Panel, epochs: int) -> None:
        self.prompts, self.target, self.panel = prompts, target, panel
        self.epochs = 1 if target.deterministic else epochs
        self.total = len(prompts) * self.epochs
        self.pending: list[Pending] = []
        self._responses: dict[tuple[int, int], Response] = {}
        self._said: dict[tuple[int, int, int], Verdict] = {}

    @property
    def open(self) -> list[Response]:
        """The responses that go to the judges."""
        held = sorted(self._responses.items())
        return [response for _, response in held if response.outcome == "answered"]

    def questions(self) -> Iterator[tuple[int, int]]:
        """What to ask the target."""
        return ((row, epoch) for row in range(len(self.prompts)) for epoch in range(self.epochs))

    def cases(self, seat: int) -> Iterator[tuple[int, Response]]:
        """What to ask a judge."""
        return ((seat, response) for response in self.open)

    async def answer(self, piece: tuple[int, int]) -> None:
        """Ask the target once."""
        row, epoch = piece
        request = question(self.prompts[row].prompt, self.target.sampling, epoch)
        answered = await self.target.client.ask(request)
        if isinstance(answered, Failure) and not answered.terminal:
            self._wait("answer", self.target.name, row, epoch, answered)
            return
        held = response_of(answered, row, epoch, self.panel.dimensions)
        self._responses[row, epoch] = held

    async def judge(self, piece: tuple[int, Response]) -> None:
        """Ask a judge about one response."""
        seat, response = piece
        judge, row = self.panel.judges[seat], response.prompt
        said = await verdict_on(judge, self.prompts[row].prompt, response, self.panel.dimensions)
        if isinstance(said, Verdict):
            self._said[row, response.epoch, seat] = said
        else:
            self._wait("judge", judge.name, row, response.epoch, said)

    def answers(self, self_judged: tuple[str, ...]) -> Answers:
        """Everything that came back, with the panel's verdicts."""
        return Answers(
            target=self.target.name,
            weights=self.target.client.model.weights,
            deterministic=self.target.deterministic,
            epochs=self.epochs,
            responses=tuple(self._settled(one) for _, one in sorted(self._responses.items())),
            self_judged=self_judged,
        )

    def _settled(self, response: Response) -> Response:
        if response.outcome != "answered":
            return response
        seats = range(len(self.panel.judges))
        said = tuple(self._said[response.prompt, response.epoch, seat] for seat in seats)
        return replace(response, said=said, verdict=self.panel.verdict(said))

    def _wait(self, stage: str, name: str, row: int, epoch: int, failure: Failure) -> None:
        if failure.fatal:
            raise OutsideWorld(failure.detail, where=name)
        place = f"{self.prompts[row].prompt_id} {self.target.name} epoch {epoch} {name}"
        self.pending.append(Pending(place, stage, detail=f"{failure.kind}: {failure.detail}"))


def _refuse(prompts: Sequence[Item], targets: Sequence[Target]) -> None:
    if not prompts:
        raise UserError("there are no prompts to answer")
    if not targets:
        raise UserError("there is no target", mend="Name one: --target")
    names = [target.name for target in targets]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"target {name} is given twice", mend="Name it once")


def _judges_of_itself(target: Target, panel: Panel, allowed: bool) -> tuple[str, ...]:
    """The judges that have the target's weights.

    Raises:
        UserError: there are any, and that is not allowed.
    """
    weights = target.client.model.weights
    same = tuple(judge.name for judge in panel.judges if judge.weights == weights)
    if same and not allowed:
        raise UserError(
            "a target never judges its own answers",
            where=target.name,
            mend="Name another judge, or allow it, and the result is marked:"
            " --allow-shared-roles or allow_shared_roles: true",
        )
    return same
