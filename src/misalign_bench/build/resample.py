"""Stage I, steps 5 to 7: from a labelled prompt and a generator to a pair, or to a dropped row.

Two-stage rejection sampling (paper): up to K draws are screened; if none passes, the generator sees
its draw and the evaluator's objection and tries again, at most R rounds. ``accept: first`` draws
one at a time and stops at the first that passes; ``accept: all`` draws all K and keeps the best, as
the paper does, and draws the misaligned response of a pair whose aligned one was given up too, so
that another evaluator finds every draw in the journal. The aligned response is settled first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from misalign_bench.build.respond import Responder, intent_of
from misalign_bench.build.screen import Relevance, Screen, margin
from misalign_bench.config import RunSettings
from misalign_bench.judge.judge import Judge
from misalign_bench.llm.client import Client
from misalign_bench.llm.model import Failure
from misalign_bench.records import (
    Accepted,
    Dropped,
    Kind,
    LabelledPrompt,
    Pair,
    Pending,
    Reason,
    Rejected,
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one (prompt, generator): pair, drop or wait, and what became of its draws.

    ``passed_over`` are draws that were as good as accepted, had there not been a better one.
    """

    id: str
    labelled: LabelledPrompt
    generator: str
    result: Pair | Dropped | Pending
    rejected: tuple[Rejected, ...]
    accepted: tuple[Accepted, ...] = ()
    passed_over: tuple[Accepted, ...] = ()


async def make_pair(
    labelled: LabelledPrompt,
    generator: Client,
    evaluator: Judge,
    settings: RunSettings,
    relevance: Relevance | None = None,
) -> Outcome:
    """Draw, screen and resample both responses to one prompt by one generator."""
    name = generator.model.name
    identity = f"{labelled.prompt.id}:{name}"
    screen = Screen(evaluator, labelled, relevance, settings.deduplicate)
    intent = intent_of(labelled, settings.seed)
    rejected: list[Rejected] = []
    accepted: list[Accepted] = []
    passed_over: list[Accepted] = []
    given_up: Dropped | None = None

    def outcome(result: Pair | Dropped | Pending) -> Outcome:
        held = tuple(rejected), tuple(accepted), tuple(passed_over)
        return Outcome(identity, labelled, name, result, *held)

    for kind in ("aligned", "misaligned"):
        responder = Responder(generator, settings.respond, kind, labelled, intent)
        twin = [one.candidate.text for one in accepted]
        sampler = _Sampler(responder, screen, settings, kind, twin)
        found = await sampler.run()
        rejected += sampler.rejected
        passed_over += sampler.passed_over
        if isinstance(found, Accepted):
            accepted.append(found)
            continue
        if isinstance(found, Pending):
            return outcome(Pending(identity, found.stage, detail=found.detail))
        lost = Dropped(identity, "resample", found.reason, f"{kind}: {found.detail}")
        given_up = given_up or lost
        if settings.respond.accept == "first" or found.reason is not Reason.DRAWS_SPENT:
            break
    if given_up is not None:
        return outcome(given_up)
    return outcome(Pair(labelled, name, accepted[0], accepted[1], tuple(rejected)))


async def make_pairs(
    work: list[tuple[LabelledPrompt, Client]],
    evaluator: Judge,
    settings: RunSettings,
    relevance: Relevance | None,
    settled: Callable[[Outcome], None],
    in_flight: int = 64,
) -> list[Outcome]:
    """All pairs, at most ``in_flight`` at once, in the order of ``work``."""
    slots = asyncio.Semaphore(in_flight)

    async def one(labelled: LabelledPrompt, client: Client) -> Outcome:
        async with slots:
            outcome = await make_pair(labelled, client, evaluator, settings, relevance)
        settled(outcome)
        return outcome

    tasks = [asyncio.ensure_future(one(labelled, client)) for labelled, client in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Sampler:
    """The draws of one kind, over all rounds."""

    def __init__(
        self,
        responder: Responder,
        screen: Screen,
        settings: RunSettings,
        kind: Kind,
        twin: list[str],
    ) -> None:
        self._responder, self._screen, self._kind = responder, screen, kind
        self._draws, self._rounds = settings.respond.draws, settings.respond.rounds
        self._all = settings.respond.accept == "all"
        self._earlier = twin
        self.rejected: list[Rejected] = []
        self.passed_over: list[Accepted] = []

    async def run(self) -> Accepted | Dropped | Pending:
        """The first accepted draw (or the best of a round), or why there is none."""
        feedback: Rejected | None = None
        for round_ in range(self._rounds + 1):
            tried = len(self.rejected)
            one_round = self._best if self._all else self._first
            found = await one_round(round_, feedback)
            if found is not None:
                return found
            # The draw that came closest is the one worth correcting.
            feedback = max(self.rejected[tried:], key=margin)
        last = self.rejected[-1]
        draws = len(self.rejected)
        detail = f"{draws} draws rejected, the last one because {last.detail}"
        return Dropped("", "resample", Reason.DRAWS_SPENT, detail)

    async def _first(
        self, round_: int, feedback: Rejected | None
    ) -> Accepted | Dropped | Pending | None:
        for index in range(self._draws):
            found = await self._try(round_, index, feedback)
            if not isinstance(found, Rejected):
                return found
        return None

    async def _best(
        self, round_: int, feedback: Rejected | None
    ) -> Accepted | Dropped | Pending | None:
        accepted: list[Accepted] = []
        for index in range(self._draws):
            found = await self._try(round_, index, feedback)
            if isinstance(found, (Pending, Dropped)):
                return found
            if isinstance(found, Accepted):
                accepted.append(found)
        best = max(accepted, key=margin, default=None)
        self.passed_over += [one for one in accepted if one is not best]
        return best

    async def _try(
        self, round_: int, index: int, feedback: Rejected | None
    ) -> Accepted | Rejected | Dropped | Pending:
        drawn = await self._responder.draw(round_, index, feedback)
        if isinstance(drawn, Failure):
            return _failed(drawn)
        candidate, reply = drawn
        verdict = self._screen.objection(candidate, reply, self._earlier) or (
            await self._screen.judged(candidate)
        )
        self._earlier = [*self._earlier, candidate.text] if candidate.text else self._earlier
        if isinstance(verdict, Rejected):
            self.rejected.append(verdict)
        return verdict


def _failed(failure: Failure) -> Dropped | Pending:
    """A draw that could not be made: for now, or for good."""
    if not failure.terminal:
        return Pending("", "respond", detail=f"{failure.kind}: {failure.detail}")
    known = failure.kind == Reason.DRAW_NOT_IN_JOURNAL.value
    reason = Reason.DRAW_NOT_IN_JOURNAL if known else Reason.TRANSPORT
    return Dropped("", "respond", reason, f"{failure.kind}: {failure.detail}")
