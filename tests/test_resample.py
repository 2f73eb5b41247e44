"""Two-stage rejection sampling: which draws are made, kept, compared, and given up."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exported import SETTINGS, labelled
from misalign_bench.build.resample import Outcome, make_pair, make_pairs
from misalign_bench.build.respond import FEEDBACK, Responder, intent_of
from misalign_bench.config import JudgeSettings, RunSettings
from misalign_bench.judge.judge import Judge, make_judge
from misalign_bench.judge.logprob import LogprobJudge
from misalign_bench.llm.client import Client
from misalign_bench.llm.model import Failure, Reply, Request
from misalign_bench.prompts.loader import template
from misalign_bench.records import (
    DIMENSIONS,
    KINDS,
    Accepted,
    Dimension,
    Dropped,
    Intent,
    LabelledPrompt,
    Pair,
    Pending,
    Reason,
    Rejected,
)
from scripted import Answer, Scripted, asked_about, asking

WORDS = [a + b + c for a in "bdfgklmn" for b in ("ar", "el", "on", "ux") for c in ("ta", "mo")]
Writer = Callable[[Request], str]
LOST = Failure("unavailable", "HTTP 503")


def settings(**respond: Any) -> RunSettings:
    held = SETTINGS.respond.model_copy(update=respond)
    return SETTINGS.model_copy(update={"respond": held, "seed": 3})


def prompt(text: str) -> LabelledPrompt:
    return labelled(text, "train", "value/Helpfulness")


def kind_of(request: Request) -> str:
    return "misaligned" if request.template.startswith("respond_misaligned") else "aligned"


def place(request: Request) -> tuple[str, int, int]:
    """Kind, round and index of a draw."""
    return kind_of(request), request.sample.round, request.sample.index


def words(*seed: object) -> str:
    """Twenty words that no other seed gives."""
    return " ".join(random.Random(repr(seed)).sample(WORDS, 20))


def text(violates: bool, *seed: object) -> str:
    return f"{words(*seed)} [[violates:{'value' if violates else ''}]]"


def obeying(plan: dict[tuple[str, int, int], bool] | None = None, obey: bool = True) -> Writer:
    """A generator that does what it is asked, or the opposite, by kind, round and index."""

    def answer(request: Request) -> str:
        done = (plan or {}).get(place(request), obey)
        last = request.messages[0 if kind_of(request) == "aligned" else -1].content
        return text((kind_of(request) == "misaligned") == done, place(request), last)

    return answer


def verdict(request: Request) -> str:
    """What a judge that errs never says about the response between the last marks."""
    marked = request.messages[-1].content.rpartition("[[violates:")[2].partition("]]")[0]
    field = {"reason": "So it is.", "span": "", "severity": 1}
    return json.dumps(
        {name: {**field, "violates": name in marked.split(",")} for name in DIMENSIONS}
    )


async def sampled(
    path: Path,
    row: LabelledPrompt,
    generator: Answer | Scripted,
    evaluator: Answer = verdict,
    run: RunSettings | None = None,
    **options: Any,
) -> tuple[Outcome, list[Request], list[Request]]:
    """The outcome, and what generator and evaluator were asked."""
    model = generator if isinstance(generator, Scripted) else Scripted(generator, "simulated/g")
    judging = Scripted(evaluator, "simulated/e")
    async with asking(path / "journal.sqlite", model, judging, **options) as (client, other):
        judge = make_judge(other, JudgeSettings(method="structured"), "evaluator")
        outcome = await make_pair(row, client, judge, run or settings())
    return outcome, model.requests, judging.requests


# --- how many draws


DRAWS, ROUNDS = 2, 1
PATTERNS = list(itertools.product((False, True), repeat=DRAWS * (ROUNDS + 1)))


def by_plan(request: Request) -> str:
    """Obeys as the plan in the prompt says: one digit for each draw, aligned before misaligned."""
    told = re.search(r"\[\[plan:([01]+)/([01]+)\]\]", request.messages[-1].content)
    earlier = "\n".join(message.content for message in request.messages)
    plans = told.groups() if told else re.findall(r"\[\[plan:([01]+)/([01]+)\]\]", earlier)[-1]
    kind = kind_of(request)
    number = request.sample.round * DRAWS + request.sample.index
    done = plans[kind == "misaligned"][number] == "1"
    return text((kind == "misaligned") == done, place(request), plans)


def expected_draws(pattern: tuple[bool, ...], accept: str) -> int:
    """The closed form: how many draws a response takes whose draws pass by this pattern."""
    if True not in pattern:
        return len(pattern)
    first = pattern.index(True)
    return first + 1 if accept == "first" else DRAWS * (first // DRAWS + 1)


@pytest.mark.parametrize("accept", ["first", "all"])
async def test_the_number_of_calls_is_that_of_the_closed_form(tmp_path: Path, accept: str) -> None:
    cases = [(one, other) for one in PATTERNS for other in PATTERNS]
    digits = ["".join(str(int(done)) for done in pattern) for pattern in PATTERNS]
    plans = [f"{one}/{other}" for one in digits for other in digits]
    rows = [prompt(f"{words(plan)}? [[plan:{plan}]]") for plan in plans]
    writing, judging = Scripted(by_plan, "simulated/g"), Scripted(verdict, "simulated/e")
    run = settings(draws=DRAWS, rounds=ROUNDS, accept=accept)
    async with asking(tmp_path / "journal.sqlite", writing, judging) as (client, other):
        judge = make_judge(other, JudgeSettings(method="structured"), "evaluator")
        work = [(row, client) for row in rows]
        outcomes = await make_pairs(work, judge, run, None, lambda _: None)
    asked: dict[str, int] = {}
    for request in writing.requests:
        told = "\n".join(message.content for message in request.messages)
        plan = re.findall(r"\[\[plan:([01]+/[01]+)\]\]", told)[-1]
        asked[plan] = asked.get(plan, 0) + 1
    for (aligned, misaligned), plan, outcome in zip(cases, plans, outcomes, strict=True):
        draws = expected_draws(aligned, accept)
        if True in aligned or accept == "all":
            draws += expected_draws(misaligned, accept)
        assert asked[plan] == draws
        assert isinstance(outcome.result, Pair) == (True in aligned and True in misaligned)
    assert len(judging.requests) == len(writing.requests)


async def test_the_first_that_passes_is_taken(tmp_path: Path) -> None:
    plan = {("aligned", 0, 0): False, ("misaligned", 0, 0): False, ("misaligned", 0, 1): False}
    outcome, drawn, _ = await sampled(tmp_path, prompt("How so?"), obeying(plan))
    assert isinstance(outcome.result, Pair)
    assert [place(request) for request in drawn] == [
        ("aligned", 0, 0),
        ("aligned", 0, 1),
        ("misaligned", 0, 0),
        ("misaligned", 0, 1),
        ("misaligned", 0, 2),
    ]
    kept = outcome.result.aligned.candidate, outcome.result.misaligned.candidate
    assert [(one.round, one.index) for one in kept] == [(0, 1), (0, 2)]
    assert [one.candidate.kind for one in outcome.rejected] == ["aligned", *2 * ["misaligned"]]
    assert outcome.result.history == outcome.rejected


async def test_an_aligned_response_that_is_never_accepted_ends_the_pair(tmp_path: Path) -> None:
    outcome, drawn, _ = await sampled(tmp_path, prompt("How so?"), obeying(obey=False))
    assert isinstance(outcome.result, Dropped)
    assert outcome.result.reason is Reason.DRAWS_SPENT
    assert outcome.result.detail.startswith("aligned: 9 draws rejected, the last one because it ")
    assert {kind_of(request) for request in drawn} == {"aligned"}
    assert (len(drawn), outcome.accepted) == (9, ())


async def test_without_feedback_rounds_only_the_first_draws_are_made(tmp_path: Path) -> None:
    run = settings(draws=3, rounds=0)
    _, drawn, _ = await sampled(tmp_path, prompt("How so?"), obeying(obey=False), run=run)
    assert [place(request) for request in drawn] == [("aligned", 0, index) for index in range(3)]


async def test_a_draw_that_a_free_rule_rejects_is_not_judged(tmp_path: Path) -> None:
    def short_at_first(request: Request) -> str:
        return "No." if request.sample.index == 0 else obeying()(request)

    outcome, drawn, judged = await sampled(tmp_path, prompt("How so?"), short_at_first)
    assert isinstance(outcome.result, Pair)
    assert (len(drawn), len(judged)) == (4, 2)
    assert {one.reason for one in outcome.rejected} == {Reason.TOO_SHORT}


# --- the best of K, and feedback


def leaning(request: Request) -> Reply:
    """Log-probabilities by the mark ``[[score:0.7]]`` of the response."""
    last = request.messages[-1].content
    score = float(last.rpartition("[[score:")[2].partition("]]")[0])
    score = score if asked_about(request) == "value" else 0.01
    return Reply("", options={"yes": math.log(1 - score), "no": math.log(score)})


async def with_scores(
    path: Path, run: RunSettings, scores: dict[tuple[str, int, int], float], cut: float
) -> tuple[Outcome, list[Request]]:
    def scored(request: Request) -> str:
        where = place(request)
        return f"{words(where)} [[score:{scores[where]}]]"

    model, judging = Scripted(scored, "simulated/g"), Scripted(leaning, "simulated/e")
    async with asking(path / "journal.sqlite", model, judging) as (client, other):
        judge = LogprobJudge(other, "evaluator", "few_shot", dict.fromkeys(DIMENSIONS, cut))
        outcome = await make_pair(prompt("How so?"), client, judge, run)
    return outcome, model.requests


async def test_of_all_draws_the_clearest_is_kept(tmp_path: Path) -> None:
    aligned = {("aligned", 0, index): score for index, score in enumerate((0.3, 0.1, 0.2))}
    misaligned = {("misaligned", 0, index): score for index, score in enumerate((0.7, 0.6, 0.9))}
    run = settings(draws=3, accept="all")
    outcome, drawn = await with_scores(tmp_path, run, aligned | misaligned, 0.5)
    assert isinstance(outcome.result, Pair)
    assert outcome.result.aligned.candidate.index == 1
    assert outcome.result.misaligned.candidate.index == 2
    assert (len(drawn), outcome.rejected) == (6, ())


@pytest.mark.parametrize("accept", ["first", "all"])
async def test_feedback_goes_to_the_rejected_draw_that_came_closest(
    tmp_path: Path, accept: str
) -> None:
    scores = {("aligned", 0, index): score for index, score in enumerate((0.9, 0.6, 0.8))}
    scores |= {("aligned", 1, index): 0.1 + index / 10 for index in range(3)}
    scores |= {("misaligned", 0, index): score for index, score in enumerate((0.1, 0.2, 0.4))}
    scores |= {("misaligned", 1, index): 0.9 for index in range(3)}
    outcome, drawn = await with_scores(tmp_path, settings(accept=accept), scores, 0.5)
    assert isinstance(outcome.result, Pair)
    again = {kind_of(one): one for one in drawn if one.sample.round == 1}
    for kind, best, objection in (
        ("aligned", 1, "it violates what it should respect: value."),
        ("misaligned", 2, "it still respects what it should violate: value."),
    ):
        *_, said, told = again[kind].messages
        assert said.role == "assistant"
        assert said.content == f"{words((kind, 0, best))} [[score:{scores[kind, 0, best]}]]"
        assert told.role == "user"
        assert objection in told.content
        assert again[kind].template == (f"{template(f'respond_{kind}').id}+{template(FEEDBACK).id}")


async def test_every_round_answers_to_a_draw_of_the_round_before(tmp_path: Path) -> None:
    outcome, drawn, _ = await sampled(tmp_path, prompt("How so?"), obeying(obey=False))
    assert isinstance(outcome.result, Dropped)
    by_round = {number: [one for one in drawn if one.sample.round == number] for number in range(3)}
    for number in (1, 2):
        said = {request.messages[-2].content for request in by_round[number]}
        before = {
            one.candidate.text for one in outcome.rejected if one.candidate.round == number - 1
        }
        assert len(said) == 1
        assert said <= before


async def test_the_evaluators_reason_is_in_the_feedback(tmp_path: Path) -> None:
    plan = {("aligned", 0, index): False for index in range(3)}
    _, drawn, _ = await sampled(tmp_path, prompt("How so?"), obeying(plan))
    (again,) = [one for one in drawn if place(one) == ("aligned", 1, 0)]
    assert "respect: value. So it is." in again.messages[-1].content


async def test_an_empty_draw_leaves_no_empty_message_in_the_feedback(tmp_path: Path) -> None:
    def silent_at_first(request: Request) -> str | Reply:
        if request.sample.round == 0:
            return Reply("", status="filtered")
        return obeying()(request)

    outcome, drawn, _ = await sampled(tmp_path, prompt("How so?"), silent_at_first)
    assert isinstance(outcome.result, Pair)
    assert all(message.content for request in drawn for message in request.messages)


# --- duplicates


def saying(said: dict[tuple[str, int, int], str]) -> Answer:
    return lambda request: said.get(place(request)) or obeying()(request)


async def test_a_draw_like_an_earlier_one_of_its_kind_is_rejected(tmp_path: Path) -> None:
    once = text(True, "bad")
    said = {("aligned", 0, 0): once, ("aligned", 0, 1): f"{once}!", ("aligned", 0, 2): once}
    outcome, _, judged = await sampled(tmp_path, prompt("How so?"), saying(said))
    reasons = [one.reason for one in outcome.rejected]
    assert reasons == [Reason.VIOLATES, Reason.NEAR_DUPLICATE, Reason.NEAR_DUPLICATE]
    assert len(judged) == 3  # the first one, and both of the pair


async def test_a_draw_like_its_accepted_twin_is_rejected(tmp_path: Path) -> None:
    twin = text(False, "twin")
    said = {("aligned", 0, 0): twin, ("misaligned", 0, 0): twin}
    outcome, _, _ = await sampled(tmp_path, prompt("How so?"), saying(said))
    assert isinstance(outcome.result, Pair)
    (rejected,) = outcome.rejected
    assert (rejected.candidate.kind, rejected.reason) == ("misaligned", Reason.NEAR_DUPLICATE)


async def test_a_draw_like_a_rejected_one_of_the_other_kind_is_not_rejected(
    tmp_path: Path,
) -> None:
    bad = text(True, "bad")
    said = {("aligned", 0, 0): bad, ("misaligned", 0, 0): bad}
    outcome, _, _ = await sampled(tmp_path, prompt("How so?"), saying(said))
    assert isinstance(outcome.result, Pair)
    assert outcome.result.misaligned.candidate.text == bad


async def test_equal_draws_for_another_prompt_or_by_another_generator_are_not_duplicates(
    tmp_path: Path,
) -> None:
    same = saying({("aligned", 0, 0): text(False, "good"), ("misaligned", 0, 0): text(True, "bad")})
    models = [Scripted(same, f"simulated/{name}") for name in "ab"]
    judging = Scripted(verdict, "simulated/e")
    async with asking(tmp_path / "journal.sqlite", *models, judging) as (one, two, other):
        judge = make_judge(other, JudgeSettings(method="structured"), "evaluator")
        work = [
            (prompt(asked), client) for asked in ("How so?", "Why so?") for client in (one, two)
        ]
        outcomes = await make_pairs(work, judge, settings(), None, lambda _: None)
    assert all(isinstance(outcome.result, Pair) for outcome in outcomes)
    assert [outcome.rejected for outcome in outcomes] == 4 * [()]


# --- failures


@pytest.mark.parametrize("passing", [True, False])
async def test_a_draw_without_an_answer_leaves_the_pair_pending(
    tmp_path: Path, passing: bool
) -> None:
    def lost(request: Request) -> str | Failure:
        failure = Failure("unavailable", "HTTP 503", passing=passing)
        return failure if kind_of(request) == "misaligned" else obeying()(request)

    row = prompt("How so?")
    outcome, _, _ = await sampled(tmp_path, row, lost)
    assert outcome.result == Pending(
        f"{row.prompt.id}:simulated/g", "respond", detail="unavailable: HTTP 503"
    )
    assert outcome.rejected == ()


async def test_a_verdict_without_an_answer_leaves_the_pair_pending_and_rejects_nothing(
    tmp_path: Path,
) -> None:
    row = prompt("How so?")
    outcome, drawn, _ = await sampled(tmp_path, row, obeying(), lambda _: LOST)
    assert isinstance(outcome.result, Pending)
    assert (outcome.result.id, outcome.result.stage) == (outcome.id, "screen")
    assert (len(drawn), outcome.rejected) == (1, ())


async def test_a_pending_pair_goes_on_where_it_stopped(tmp_path: Path) -> None:
    row, down = prompt("How so?"), [True]

    def sometimes(request: Request) -> str | Failure:
        return LOST if down[0] and kind_of(request) == "misaligned" else obeying()(request)

    model = Scripted(sometimes, "simulated/g")
    await sampled(tmp_path, row, model)
    down[0] = False
    outcome, drawn, judged = await sampled(tmp_path, row, model)
    assert isinstance(outcome.result, Pair)
    assert [place(one) for one in drawn] == [("aligned", 0, 0), *2 * [("misaligned", 0, 0)]]
    assert len(judged) == 1


async def test_a_draw_that_was_given_up_drops_the_pair(tmp_path: Path) -> None:
    outcome, _, _ = await sampled(tmp_path, prompt("How so?"), lambda _: LOST, accept_failures=True)
    assert isinstance(outcome.result, Dropped)
    assert outcome.result.reason is Reason.TRANSPORT
    assert outcome.result.detail == "aligned: unavailable: HTTP 503"


async def test_a_verdict_that_was_given_up_rejects_only_that_draw(tmp_path: Path) -> None:
    lost: list[str] = []

    def once(request: Request) -> str | Failure:
        response = request.messages[-1].content
        if not lost or response in lost:
            lost.append(response)
            return LOST
        return verdict(request)

    outcome, _, _ = await sampled(
        tmp_path, prompt("How so?"), obeying(), once, accept_failures=True
    )
    assert isinstance(outcome.result, Pair)
    assert [one.reason for one in outcome.rejected] == [Reason.TRANSPORT]
    assert outcome.result.aligned.candidate.index == 1


async def test_a_draw_that_may_not_be_made_drops_the_pair(tmp_path: Path) -> None:
    outcome, drawn, judged = await sampled(tmp_path, prompt("How so?"), obeying(), no_new=True)
    assert isinstance(outcome.result, Dropped)
    assert outcome.result.reason is Reason.DRAW_NOT_IN_JOURNAL
    assert drawn == judged == []


async def test_stored_draws_are_judged_again_without_new_ones(tmp_path: Path) -> None:
    row = prompt("How so?")
    await sampled(tmp_path, row, obeying())

    def harsh(request: Request) -> str:
        said = json.loads(verdict(request))
        said["culture"]["violates"] = True
        return json.dumps(said)

    model, judging = Scripted(obeying(), "simulated/g"), Scripted(harsh, "simulated/harsh")
    async with asking(tmp_path / "journal.sqlite", model, judging, no_new=True) as clients:
        judge = make_judge(clients[1], JudgeSettings(method="structured"), "evaluator")
        outcome = await make_pair(row, clients[0], judge, settings())
    assert isinstance(outcome.result, Dropped)
    assert outcome.result.reason is Reason.DRAW_NOT_IN_JOURNAL
    assert [one.reason for one in outcome.rejected] == [Reason.VIOLATES]
    assert (len(model.requests), len(judging.requests)) == (0, 1)


# --- many pairs


async def test_outcomes_come_in_the_order_of_the_work_and_not_all_at_once(tmp_path: Path) -> None:
    chance = random.Random(1)
    model = Scripted(obeying(), "simulated/g", delay=lambda: chance.uniform(0, 0.01))
    judging = Scripted(verdict, "simulated/e")
    settled: list[Outcome] = []
    async with asking(tmp_path / "journal.sqlite", model, judging) as (client, other):
        judge = make_judge(other, JudgeSettings(method="structured"), "evaluator")
        work = [(prompt(f"How so, {number}?"), client) for number in range(20)]
        outcomes = await make_pairs(work, judge, settings(), None, settled.append, in_flight=3)
    assert [outcome.labelled for outcome in outcomes] == [row for row, _ in work]
    assert sorted(one.id for one in settled) == sorted(one.id for one in outcomes)
    assert model.most_in_flight == 3


async def test_what_stops_one_pair_for_good_stops_the_others(tmp_path: Path) -> None:
    class Broken:
        async def verdict(self, **_: Any) -> None:
            raise RuntimeError("a bug")

    model = Scripted(obeying(), "simulated/g")
    judge: Judge = Broken()  # type: ignore[assignment]
    async with asking(tmp_path / "journal.sqlite", model) as (client,):
        work: list[tuple[LabelledPrompt, Client]] = [
            (prompt(f"How so, {number}?"), client) for number in range(9)
        ]
        with pytest.raises(RuntimeError, match="a bug"):
            await make_pairs(work, judge, settings(), None, lambda _: None, in_flight=2)
        left = [task for task in asyncio.all_tasks() if "make_pair" in repr(task)]
        assert left == []
    assert len(model.requests) < 9


# --- what is asked for


ALL = labelled("P", "train", "safety/Privacy violation", "value/Honesty", "culture/Festivals")


def test_one_active_dimension_is_the_intended_one_with_all_its_domains() -> None:
    row = labelled("P", "train", "value/Honesty", "value/Politeness")
    keys = tuple(label.key for label in row.labels)
    assert {intent_of(row, seed) for seed in range(20)} == {Intent(("value",), keys)}


def test_several_active_dimensions_alternate_between_one_and_all_of_them() -> None:
    found = [intent_of(ALL, seed) for seed in range(600)]
    sizes = [len(intent.dimensions) for intent in found]
    assert set(sizes) == {1, 3}
    assert sizes.count(1) / 600 == pytest.approx(0.5, abs=0.08)
    alone = [intent.dimensions[0] for intent in found if len(intent.dimensions) == 1]
    for dimension in DIMENSIONS:
        assert alone.count(dimension) / len(alone) == pytest.approx(1 / 3, abs=0.1)
    for intent in found:
        assert {key.partition("/")[0] for key in intent.domains} == set(intent.dimensions)
    assert intent_of(ALL, 5) == intent_of(ALL, 5)


async def test_an_aligned_draw_names_every_domain_and_a_misaligned_one_the_intended(
    tmp_path: Path,
) -> None:
    intent = Intent(("culture",), ("culture/Festivals",))
    model = Scripted(lambda _: "said")
    async with asking(tmp_path / "journal.sqlite", model) as (client,):
        for kind in KINDS:
            responder = Responder(client, settings().respond, kind, ALL, intent)
            drawn = await responder.draw(0, 0)
            assert not isinstance(drawn, Failure)
            assert drawn[0].intent == intent
    aligned, misaligned = (request.messages[-1].content.lower() for request in model.requests)
    names = {"privacy violation", "honesty", "festivals"}
    assert {name for name in names if name in aligned} == names
    assert {name for name in names if name in misaligned} == {"festivals"}


async def test_a_candidate_knows_where_it_comes_from(tmp_path: Path) -> None:
    row = prompt("How so?")
    plan = {("misaligned", 0, index): False for index in range(3)}
    outcome, _, _ = await sampled(tmp_path, row, obeying(plan))
    assert isinstance(outcome.result, Pair)
    one = outcome.result.misaligned.candidate
    assert (one.prompt_id, one.generator, one.round, one.index) == (
        row.prompt.id,
        "simulated/g",
        1,
        0,
    )
    intended: tuple[Dimension, ...] = ("value",)
    assert one.intent == Intent(intended, ("value/Helpfulness",))
    draws: list[Accepted | Rejected] = [*outcome.rejected, *outcome.accepted]
    assert len({draw.candidate.journal_key for draw in draws}) == len(draws) == 5
