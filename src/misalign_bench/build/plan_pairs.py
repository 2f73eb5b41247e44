"""The part of a plan that concerns pairs: draws and verdicts (``plan``; Stage I, steps 5 to 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from misalign_bench.build.pipeline import generators_of
from misalign_bench.build.plan_bounds import (
    REREAD_BY_ITSELF,
    Load,
    Rehearsal,
    total,
    weigh,
    written,
)
from misalign_bench.build.plan_table import Tally
from misalign_bench.build.respond import Responder, intent_of
from misalign_bench.config import RunSettings
from misalign_bench.config_model import ModelSettings
from misalign_bench.judge.bind import bind_judge
from misalign_bench.judge.judge import Judge
from misalign_bench.llm.model import Request
from misalign_bench.records import (
    DIMENSIONS,
    KINDS,
    Candidate,
    LabelledPrompt,
    Pending,
    Reason,
    Rejected,
)

OBJECTION = 64
"""Tokens of an objection without the evaluator's own reasons."""


async def plan_pairs(
    settings: RunSettings, allowed: Sequence[LabelledPrompt], tally: Tally, *, exact: bool
) -> None:
    """Count the draws for these prompts and the verdicts on them.

    Args:
        settings: of the run.
        allowed: the prompts that responses are drawn for.
        tally: counts.
        exact: whether their labels are known; else perhaps none of them is answered.
    """
    evaluator = await _calibrated(settings, tally)
    verdicts: list[Load] = []
    for one in allowed:
        pairing = await _rehearsed(one, settings, evaluator)
        verdicts += map(pairing.verdict_on, generators_of(one, settings))
        for generator in generators_of(one, settings):
            load = pairing.draws(generator)
            first = pairing.first if exact else []
            tally.add("generator", generator, load if exact else load.or_less(), first=first)
            tally.add("evaluator", settings.roles.evaluator, pairing.verdicts(generator))
    _plan_consistency(settings, verdicts, tally)


async def plan_expanded_pairs(
    settings: RunSettings, longest: LabelledPrompt, added: int, tally: Tally
) -> None:
    """Count the draws and verdicts for up to ``added`` prompts that are no longer than this one."""
    generators, model = settings.roles.generators, settings.roles.evaluator
    pairing = await _rehearsed(longest, settings, await _calibrated(settings))
    for generator in generators:
        # Which of the generators will answer an expanded prompt is not known.
        tally.add("generator", generator, pairing.draws(generator).times(added).or_less())
    loads = sorted(map(pairing.verdicts, generators), key=lambda load: -load.input_tokens.high)
    tally.add("evaluator", model, total(loads[: generators_each(settings)]).times(added))
    _plan_consistency(settings, list(map(pairing.verdict_on, generators)), tally)


def _plan_consistency(settings: RunSettings, verdicts: Sequence[Load], tally: Tally) -> None:
    """Count the sampled verdicts, which are asked for in both orders: the first is replayed."""
    wanted = 2 * settings.respond.consistency_sample
    if wanted and verdicts:
        longest = max(verdicts, key=lambda load: load.input_tokens.high)
        tally.add("evaluator", settings.roles.evaluator, longest.times(wanted).or_less())


def generators_each(settings: RunSettings) -> int:
    """How many generators answer a prompt."""
    pool = len(settings.roles.generators)
    return min(settings.respond.generators_per_prompt or pool, pool)


@dataclass(frozen=True, slots=True)
class _Evaluator:
    """The judge of a rehearsal, and where its requests end up."""

    judge: Judge
    rehearsal: Rehearsal

    async def asked(self, prompt: str) -> list[Request]:
        """The requests of one verdict on an empty response."""
        await self.judge.verdict(prompt=prompt, response="", dimensions=DIMENSIONS, epoch=0)
        return self.rehearsal.take()


async def _calibrated(settings: RunSettings, tally: Tally | None = None) -> _Evaluator:
    """The evaluator over a stand-in; its calibration calls are counted by the tally."""
    model = settings.roles.evaluator
    rehearsal = Rehearsal(model)
    bound = await bind_judge(rehearsal.client, settings.judge, "evaluator")
    if isinstance(bound, Pending):
        raise ValueError("a stand-in always answers")
    asked = rehearsal.take()
    if tally is not None:
        tally.add("evaluator", model, total(weigh(one, model) for one in asked), first=asked)
    return _Evaluator(bound[0], rehearsal)


async def _rehearsed(one: LabelledPrompt, settings: RunSettings, evaluator: _Evaluator) -> _Pairing:
    """What is asked about one prompt, whoever the generator is."""
    rehearsal = Rehearsal(settings.roles.generators[0])
    intent = intent_of(one, settings.seed)
    for kind in KINDS:
        responder = Responder(rehearsal.client, settings.respond, kind, one, intent)
        await responder.draw(0, 0)
        draw = Candidate(one.prompt.id, "", kind, 0, 0, "", "", intent)
        await responder.draw(1, 0, Rejected(draw, Reason.VIOLATES))
    aligned, aligned_again, misaligned, misaligned_again = rehearsal.take()
    return _Pairing(
        settings,
        fresh=(aligned, misaligned),
        again=(aligned_again, misaligned_again),
        verdict=await evaluator.asked(one.prompt.text),
    )


@dataclass(frozen=True, slots=True)
class _Pairing:
    """The requests about one prompt, aligned before misaligned.

    Attributes:
        fresh: of the first round.
        again: of a feedback round, with an empty draw and an empty objection.
        verdict: about an empty response.
    """

    settings: RunSettings
    fresh: tuple[Request, Request]
    again: tuple[Request, Request]
    verdict: Sequence[Request]

    @property
    def first(self) -> list[Request]:
        """The draws of a pair whose responses are accepted as early as can be."""
        return [
            replace(request, sample=replace(request.sample, index=index))
            for request in self.fresh
            for index in range(self._at_once)
        ]

    def draws(self, generator: ModelSettings) -> Load:
        """The generator's calls for the pair.

        An aligned response that is never accepted ends the pair before its second one is drawn,
        which may be less than a pair accepted at once.
        """
        held = self.settings.respond
        aligned, misaligned = (weigh(request, generator) for request in self.fresh)
        reply = written(generator, held.sampling.max_tokens)
        aligned_again, misaligned_again = (
            weigh(request, generator).reading(reply, REREAD_BY_ITSELF).reading(self._objection)
            for request in self.again
        )
        later = held.draws * held.rounds
        accepted = (aligned + misaligned).times(self._at_once)
        given_up = aligned.times(held.draws) + aligned_again.times(later)
        worst = given_up + misaligned.times(held.draws) + misaligned_again.times(later)
        return worst.or_less(accepted, given_up)

    def verdicts(self, generator: ModelSettings) -> Load:
        """The evaluator's calls for the pair; the free rules may reject every draw before it."""
        held = self.settings.respond
        return self.verdict_on(generator).times(2 * held.draws * (held.rounds + 1)).or_less()

    def verdict_on(self, generator: ModelSettings) -> Load:
        """The evaluator's calls for one response."""
        held, model = self.settings.respond, self.settings.roles.evaluator
        reply = written(generator, held.sampling.max_tokens)
        return total(weigh(request, model).reading(reply) for request in self.verdict)

    @property
    def _at_once(self) -> int:
        """Draws of a response whose first draw is accepted."""
        return self.settings.respond.draws if self.settings.respond.accept == "all" else 1

    @property
    def _objection(self) -> int:
        """Tokens of an objection to its writer; only a structured verdict gives reasons."""
        if any(request.options for request in self.verdict):
            return OBJECTION
        return OBJECTION + written(
            self.settings.roles.evaluator, self.settings.judge.sampling.max_tokens
        )
