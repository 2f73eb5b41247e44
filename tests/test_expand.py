"""Expansion in barrier rounds: what is asked, what is added, and what is refused and why."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exported import SETTINGS, labelled
from misalign_bench.build.classify.classify import Classified
from misalign_bench.build.classify.joint import JointClassifier
from misalign_bench.build.expand import (
    Expansion,
    counts,
    expand,
    plan_round,
    wanted_domains,
)
from misalign_bench.build.expand_answers import objection, schema
from misalign_bench.build.ingest import content_id
from misalign_bench.build.split import with_splits
from misalign_bench.config import PolicySettings, RunSettings
from misalign_bench.config_model import ModelSettings
from misalign_bench.errors import UserError
from misalign_bench.llm.behaviours import Draw
from misalign_bench.llm.model import Failure, Reply, Request
from misalign_bench.llm.providers import make_model
from misalign_bench.prompts.loader import quoted
from misalign_bench.records import SPLITS, Dropped, LabelledPrompt, Pending, Prompt, Reason, Split
from misalign_bench.taxonomy.loader import taxonomy
from misalign_bench.taxonomy.neighbours import neighbours
from scripted import Answer, Scripted, asking

HONESTY, FESTIVALS = "value/Honesty", "culture/Festivals"
PEOPLE = """
    aunt baker cousin dentist editor farmer guard hunter judge keeper lawyer miner nurse officer
    painter rider sailor tailor uncle vicar waiter
"""
LOST = Failure("unavailable", "HTTP 503")


def settings(**changes: Any) -> RunSettings:
    """Expansion of two domains to four prompts each, two a request."""
    table = {
        "enabled": True,
        "domains": (HONESTY, FESTIVALS),
        "target": 4,
        "per_request": 2,
        "examples": 2,
        "max_rounds": 3,
    }
    held = SETTINGS.expand.model_validate(table | changes)
    return SETTINGS.model_copy(update={"expand": held, "seed": 11})


def question(number: object, mark: str = "Honesty") -> str:
    """A prompt that is like no other, with the mark of its label."""
    names = random.Random(repr(number)).sample(PEOPLE.split(), 9)
    return f"What should I tell the {' the '.join(names)} about it all? [[labels:{mark}]]"


class Marks:
    """A classifier that reads the mark in a prompt."""

    def __init__(self, said: Callable[[Prompt], Classified | None] = lambda _: None) -> None:
        self.said, self.asked = said, list[Prompt]()

    async def probabilities(self, prompts: Sequence[Prompt]) -> list[Classified]:
        self.asked += prompts
        return [self.said(prompt) or self._read(prompt) for prompt in prompts]

    def describe(self) -> dict[str, Any]:
        return {}

    def _read(self, prompt: Prompt) -> Classified:
        names = prompt.text.rpartition("[[labels:")[2].partition("]]")[0].split("|")
        return tuple(float(domain.name in names) for domain in taxonomy().domains)


def topic(request: Request) -> str:
    return request.messages[-1].content.partition("Topic: ")[2].partition(".")[0]


def said(*prompts: str) -> str:
    return json.dumps({"prompts": list(prompts)})


def two_each(request: Request) -> str:
    """Two new prompts on the topic."""
    where = (request.sample.round, request.sample.index, topic(request))
    return said(*(question((*where, item), topic(request)) for item in range(2)))


async def expanded(
    path: Path,
    pool: Sequence[LabelledPrompt],
    answer: Answer | Scripted = two_each,
    run: RunSettings | None = None,
    classifier: Marks | None = None,
    **options: Any,
) -> tuple[Expansion, list[Request]]:
    model = answer if isinstance(answer, Scripted) else Scripted(answer)
    async with asking(path / "journal.sqlite", model, **options) as (client,):
        done = await expand(pool, client, classifier or Marks(), run or settings())
    return done, model.requests


def pool_of(count: int, *keys: str, split: Split | None = None) -> list[LabelledPrompt]:
    """Prompts with these labels, over all splits or in one."""
    return [
        labelled(question(("pool", keys, n), "none"), split or SPLITS[n % 3], *keys)
        for n in range(count)
    ]


def reasons(done: Expansion) -> list[Reason]:
    return [row.reason for row in done.dropped]


# --- what is added


async def test_every_domain_is_filled_to_its_target(tmp_path: Path) -> None:
    pool = pool_of(1, HONESTY) + pool_of(3, FESTIVALS)
    done, asked = await expanded(tmp_path, pool)
    held = counts([*pool, *done.added])
    assert (held[HONESTY], held[FESTIVALS]) == (4, 4)
    # Three are wanted of honesty, two a request; one of festivals.
    assert [(topic(request), request.sample.index) for request in asked] == [
        ("Honesty", 0),
        ("Honesty", 1),
        ("Festivals", 0),
    ]
    assert (done.requests, done.unmet, len(done.added)) == (3, {}, 4)
    assert reasons(done) == [Reason.TARGET_REACHED, Reason.TARGET_REACHED]


async def test_a_domain_at_its_target_is_left_alone(tmp_path: Path) -> None:
    done, asked = await expanded(tmp_path, pool_of(4, HONESTY, FESTIVALS))
    assert (done, asked) == (Expansion(), [])


async def test_of_more_prompts_than_were_asked_for_the_first_are_read(tmp_path: Path) -> None:
    run = settings(domains=[HONESTY], target=2, max_rounds=1)
    many = [question(number) for number in range(5)]
    done, _ = await expanded(tmp_path, [], lambda _: said(*many), run)
    assert [one.prompt.text for one in done.added] == many[:2]
    assert done.dropped == ()


async def test_a_prompt_counts_for_every_domain_it_turns_out_to_have(tmp_path: Path) -> None:
    def both(request: Request) -> str:
        where = (request.sample.round, request.sample.index, topic(request))
        return said(*(question((*where, item), "Honesty|Festivals") for item in range(2)))

    done, asked = await expanded(tmp_path, [], both)
    assert (len(asked), len(done.added)) == (4, 4)
    assert counts(done.added) == {HONESTY: 4, FESTIVALS: 4}
    assert reasons(done) == 4 * [Reason.TARGET_REACHED]


async def test_an_added_prompt_records_where_it_comes_from(tmp_path: Path) -> None:
    pool = pool_of(2, HONESTY, split="test")
    spaced = f"  {question('new').replace(' the ', '  the' + chr(10))} "

    def spaced_out(request: Request) -> str:
        return said(spaced)

    run = settings(domains=[HONESTY], target=3, per_request=1)
    done, asked = await expanded(tmp_path, pool, spaced_out, run)
    (one,) = done.added
    assert one.prompt.text == " ".join(spaced.split())
    assert one.prompt.id == content_id(one.prompt.text)
    assert one.prompt.expanded_for == HONESTY
    assert one.prompt.source.startswith("expanded:")
    assert set(one.prompt.parents) == {row.prompt.id for row in pool}
    assert one.split == "test"
    assert all(quoted(row.prompt.text) in asked[0].messages[-1].content for row in pool)


async def test_children_are_examples_for_later_rounds(tmp_path: Path) -> None:
    run = settings(domains=[HONESTY], target=3, per_request=3, examples=1)

    def one_each(request: Request) -> str:
        return said(question((request.sample.round, request.sample.index)))

    done, asked = await expanded(tmp_path, [], one_each, run)
    assert len(done.added) == 3
    assert [len(one.prompt.parents) for one in done.added] == [0, 1, 1]
    ids = [one.prompt.id for one in done.added]
    assert done.added[1].prompt.parents == (ids[0],)
    assert done.added[2].prompt.parents[0] in ids[:2]
    assert "Messages on this topic so far" not in asked[0].messages[-1].content


# --- splits


@pytest.mark.parametrize("seed", range(12))
def test_the_examples_of_a_request_are_of_one_split(seed: int) -> None:
    pool = pool_of(12, HONESTY) + pool_of(7, FESTIVALS)
    run = settings(target=40, per_request=3, examples=4).model_copy(update={"seed": seed})
    orders = plan_round(pool, wanted_domains(run), run, 0)
    assert len(orders) == 10 + 11
    for order in orders:
        assert len({one.split for one in order.examples}) == 1
        assert len({one.prompt.id for one in order.examples}) == len(order.examples)
        assert all(
            order.domain.key in {label.key for label in one.labels} for one in order.examples
        )


def test_splits_are_drawn_by_their_shares_and_never_one_without_share() -> None:
    pool = pool_of(30, HONESTY)
    run = settings(domains=[HONESTY], target=430, per_request=1)
    orders = plan_round(pool, wanted_domains(run), run, 0)
    train = sum(order.examples[0].split == "train" for order in orders)
    assert train / len(orders) == pytest.approx(0.8, abs=0.06)
    alone = run.split.model_copy(update={"train": 1.0, "validation": 0.0, "test": 0.0})
    orders = plan_round(pool, wanted_domains(run), run.model_copy(update={"split": alone}), 0)
    assert {order.examples[0].split for order in orders} == {"train"}


async def test_children_keep_their_parents_split_and_cluster(tmp_path: Path) -> None:
    pool = pool_of(9, HONESTY)
    run = settings(domains=[HONESTY], target=30, per_request=2, max_rounds=2)
    done, _ = await expanded(tmp_path, pool, two_each, run)
    assert len(done.added) > 15
    split_of = {one.prompt.id: one.split for one in (*pool, *done.added)}
    for one in done.added:
        assert one.prompt.parents
        assert {split_of[parent] for parent in one.prompt.parents} == {one.split}
    # The real splits of the ingested prompts, as the pipeline assigns them before and after.
    clusters = {one.prompt.id: one.prompt.id for one in pool}
    before = with_splits(pool, clusters, run.seed, run.split)
    done, _ = await expanded(tmp_path, before, two_each, run)
    after = with_splits([*before, *done.added], clusters, run.seed, run.split)
    held = {one.prompt.id: one for one in after}
    assert {one.prompt.id: one.split for one in (*before, *done.added)} == {
        key: one.split for key, one in held.items()
    }
    for one in done.added:
        family = (one.prompt.id, *one.prompt.parents)
        assert len({held[name].cluster_id for name in family}) == 1


async def test_without_examples_the_split_follows_from_the_prompt_itself(tmp_path: Path) -> None:
    run = settings(domains=[HONESTY])
    done, _ = await expanded(tmp_path, [], two_each, run)
    alone = [replace(one, split=None) for one in done.added]
    assert [one.split for one in with_splits(alone, {}, run.seed, run.split)] == [
        one.split for one in done.added
    ]


# --- barrier rounds


@pytest.mark.parametrize("seed", range(3))
async def test_the_outcome_does_not_depend_on_which_answer_came_first(
    tmp_path: Path, seed: int
) -> None:
    """With the shipped classifier and simulated models behind random delays."""
    run = settings(target=9, per_request=2, examples=3)
    pool = pool_of(5, HONESTY) + pool_of(2, FESTIVALS)

    async def once(folder: Path, delay: Callable[[], float]) -> tuple[Expansion, set[Request]]:
        folder.mkdir()
        heard: set[Request] = set()
        models = []
        for role in ("expander", "classifier"):
            inner = make_model(ModelSettings(model=f"simulated/{role}"))

            def answer(request: Request, inner: Any = inner) -> Reply:
                heard.add(replace(request, schema=None))
                reply: Reply = inner._answer(request, Draw.of(inner.identity, 1, request))
                return reply

            models.append(Scripted(answer, inner.name, delay=delay))
        async with asking(folder / "journal.sqlite", *models) as (client, other):
            done = await expand(pool, client, JointClassifier(other), run)
        return done, heard

    chance = random.Random(seed)
    quick = await once(tmp_path / "quick", lambda: 0.0)
    slow = await once(tmp_path / "slow", lambda: chance.uniform(0, 0.02))
    assert quick == slow
    assert quick[0].added
    assert quick[0].requests > 6


async def test_a_round_starts_only_when_the_one_before_is_complete(tmp_path: Path) -> None:
    open_rounds: list[int] = []

    def watched(request: Request) -> str:
        open_rounds.append(request.sample.round)
        return two_each(request) if request.sample.index else said(question("same"))

    chance = random.Random(5)
    model = Scripted(watched, delay=lambda: chance.uniform(0, 0.01))
    await expanded(tmp_path, [], model, settings(target=12))
    assert open_rounds == sorted(open_rounds)
    assert set(open_rounds) == {0, 1, 2}


async def test_of_two_equal_prompts_in_a_round_the_one_of_the_earlier_order_is_kept(
    tmp_path: Path,
) -> None:
    same = question("same", "Honesty|Festivals")

    async def run_with(delays: dict[str, float], folder: Path) -> Expansion:
        folder.mkdir()

        class Late(Scripted):
            async def send(self, request: Request, seed: int) -> Reply | Failure:
                await asyncio.sleep(delays[topic(request)])
                return await super().send(request, seed)

        run = settings(target=2, per_request=2, max_rounds=1)
        done, _ = await expanded(folder, [], Late(lambda _: said(same)), run)
        return done

    for number, delays in enumerate(
        ({"Honesty": 0.0, "Festivals": 0.03}, {"Honesty": 0.03, "Festivals": 0.0})
    ):
        done = await run_with(delays, tmp_path / str(number))
        assert [one.prompt.expanded_for for one in done.added] == [HONESTY]
        (refused,) = done.dropped
        assert refused.reason is Reason.NEAR_DUPLICATE
        assert refused.detail == f"{FESTIVALS}, distance 0"


async def test_the_same_run_over_its_journal_asks_nothing(tmp_path: Path) -> None:
    pool = pool_of(2, HONESTY)
    first, asked = await expanded(tmp_path, pool)
    again, asked_again = await expanded(tmp_path, pool)
    assert first == again
    assert asked
    assert asked_again == []


# --- what is refused


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (question("ok", "Politeness"), Reason.OFF_DOMAIN),
        ("Is it true?", Reason.TOO_SHORT),
        ("why " * 81 + "?", Reason.TOO_LONG),
        ("¿Cómo puedo decirle a mi jefe que no quiero trabajar con él?", Reason.LANGUAGE),
        ("Sure, here are two messages about honesty for you to use.", Reason.NOT_A_PROMPT),
        ("1. As an AI I cannot write messages of that kind.", Reason.NOT_A_PROMPT),
    ],
)
async def test_what_is_no_prompt_of_the_domain_is_refused_with_its_reason(
    tmp_path: Path, text: str, reason: Reason
) -> None:
    run = settings(domains=[HONESTY], target=1, per_request=1, max_rounds=1)
    done, _ = await expanded(tmp_path, [], lambda _: said(text), run)
    (row,) = done.dropped
    assert (row.reason, row.stage, row.detail) == (reason, "expand", HONESTY)
    assert row.id == content_id(" ".join(text.split()))
    assert done.added == done.written == ()


@pytest.mark.parametrize(
    "text",
    [
        "May I take the last slice?",
        "Is surety the same as certainty in law, or are they two things?",
        "Como is a lake in Italy; should I tell my guide that I cannot swim?",
    ],
)
def test_a_prompt_that_a_user_would_send_is_none_of_these(text: str) -> None:
    assert objection(Prompt("p1", text, "s", 0), settings()) is None


def test_another_language_is_refused_only_where_english_is_asked_for() -> None:
    german = Prompt("p1", "Wie sage ich meinem Chef, dass ich nicht mehr kann und gehe?", "s", 0)
    any_language = SETTINGS.source.model_copy(update={"language": None})
    assert objection(german, settings()) is Reason.LANGUAGE
    assert objection(german, settings().model_copy(update={"source": any_language})) is None


async def test_domains_that_are_easily_taken_for_another_are_named_as_not_the_topic(
    tmp_path: Path,
) -> None:
    run = settings(domains=[HONESTY], target=1, max_rounds=1)
    _, asked = await expanded(tmp_path, [], lambda _: said(question("new")), run)
    (line,) = [
        line
        for line in asked[0].messages[-1].content.splitlines()
        if line.startswith("Not the topic: ")
    ]
    honesty = next(one for one in taxonomy().domains if one.key == HONESTY)
    assert line == f"Not the topic: {', '.join(one.name for one in neighbours(honesty, 3))}."
    assert "Honesty" not in line
    alone = settings(domains=[HONESTY], target=1, max_rounds=1, neighbours=0)
    (tmp_path / "alone").mkdir()
    _, asked = await expanded(tmp_path / "alone", [], lambda _: said(question("new")), alone)
    assert "Not the topic" not in asked[0].messages[-1].content


async def test_near_duplicates_of_the_pool_and_of_the_round_are_refused(tmp_path: Path) -> None:
    pool = pool_of(1, HONESTY)
    old, new = pool[0].prompt.text, question("new")
    near_old = old.replace("[[labels:none]]", "[[labels:Honesty]]").replace("all?", "all then?")
    near_new = new.replace("all?", "all then?")
    run = settings(domains=[HONESTY], target=4, per_request=3, max_rounds=1)
    done, _ = await expanded(tmp_path, pool, lambda _: said(near_old, new, near_new), run)
    assert [one.prompt.text for one in done.added] == [new]
    assert reasons(done) == [Reason.NEAR_DUPLICATE, Reason.NEAR_DUPLICATE]
    assert all(row.detail.startswith(f"{HONESTY}, distance ") for row in done.dropped)
    assert [one.prompt.text for one in done.written] == [near_old, new, near_new]


async def test_rounds_are_capped_and_what_is_unmet_says_so(tmp_path: Path) -> None:
    done, asked = await expanded(
        tmp_path, pool_of(1, HONESTY), lambda _: said("Off topic, is it not so?")
    )
    assert {request.sample.round for request in asked} == {0, 1, 2}
    assert done.requests == len(asked) == 3 * (2 + 2)
    assert done.unmet == {
        HONESTY: "1 of 4 after 3 rounds; refused: off_domain 6",
        FESTIVALS: "0 of 4 after 3 rounds; refused: off_domain 6",
    }
    assert done.added == ()


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply("I can't help with that.", status="refused"), Reason.REFUSAL),
        (Reply("", status="filtered"), Reason.PROVIDER_FILTER),
        (Reply('{"prompts": ["What may', status="length"), Reason.LENGTH),
        (Reply("1. What may I say?"), Reason.PARSE),
        (Reply('{"prompts": []}'), Reason.SCHEMA),
        (Reply('{"prompts": [7]}'), Reason.SCHEMA),
    ],
)
async def test_a_request_without_usable_prompts_is_dropped_with_its_reason(
    tmp_path: Path, reply: Reply, reason: Reason
) -> None:
    run = settings(domains=[HONESTY], target=1, max_rounds=1)
    done, _ = await expanded(tmp_path, [], lambda _: reply, run)
    (row,) = done.dropped
    assert (row.id, row.reason) == (f"expand:{HONESTY}:0:0", reason)
    assert done.unmet == {HONESTY: f"0 of 1 after 1 rounds; refused: {reason.value} 1"}


# --- failures


async def test_a_request_without_an_answer_leaves_the_expansion_pending(tmp_path: Path) -> None:
    def lost(request: Request) -> str | Failure:
        return LOST if topic(request) == "Festivals" else two_each(request)

    done, _ = await expanded(tmp_path, [], lost)
    assert {row.id for row in done.pending} == {f"expand:{FESTIVALS}:0:{n}" for n in range(2)}
    assert all(isinstance(row, Pending) and row.stage == "expand" for row in done.pending)
    assert done.added == ()


async def test_a_label_without_an_answer_leaves_the_expansion_pending(tmp_path: Path) -> None:
    waits = Marks(lambda prompt: Pending(prompt.id, "classify"))
    done, _ = await expanded(tmp_path, [], classifier=waits)
    assert {row.stage for row in done.pending} == {"classify"}
    assert done.added == ()


async def test_a_request_that_was_given_up_is_dropped_and_the_round_goes_on(
    tmp_path: Path,
) -> None:
    def lost(request: Request) -> str | Failure:
        return LOST if request.sample.index == 0 else two_each(request)

    done, _ = await expanded(tmp_path, [], lost, accept_failures=True)
    assert done.pending == ()
    assert Reason.TRANSPORT in reasons(done)
    assert done.added


async def test_a_label_that_was_given_up_refuses_only_that_prompt(tmp_path: Path) -> None:
    lost = content_id(question((0, 0, "Honesty", 0), "Honesty"))

    def once(prompt: Prompt) -> Classified | None:
        given_up = Dropped(prompt.id, "classify", Reason.TRANSPORT)
        return given_up if prompt.id == lost else None

    done, _ = await expanded(tmp_path, [], classifier=Marks(once))
    first = done.dropped[0]
    assert (first.id, first.reason) == (lost, Reason.TRANSPORT)
    assert counts(done.added) == {HONESTY: 4, FESTIVALS: 4}


# --- which domains


def test_all_domains_but_the_barred_ones_are_expanded_by_default() -> None:
    keys = [domain.key for domain in wanted_domains(settings(domains=None))]
    barred = {"safety/Self-harm", "safety/Child abuse", "safety/Terrorism & organized crime"}
    assert barred.isdisjoint(keys)
    assert keys == [domain.key for domain in taxonomy().domains if domain.key in keys]
    allowed = PolicySettings(allow_domains=("safety/Self-harm",))
    run = settings(domains=None).model_copy(update={"policy": allowed})
    more = {domain.key for domain in wanted_domains(run)}
    assert more - set(keys) == {"safety/Self-harm"}


async def test_a_barred_domain_that_is_asked_for_is_not_expanded_and_said_to_be_barred(
    tmp_path: Path,
) -> None:
    run = settings(domains=["safety/Self-harm", HONESTY])
    done, asked = await expanded(tmp_path, [], two_each, run)
    assert {topic(request) for request in asked} == {"Honesty"}
    assert done.unmet == {"safety/Self-harm": "the policy bars it"}


def test_a_domain_that_does_not_exist_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"no domain 'value/Humour'[^\n]*misalign-bench domains"):
        wanted_domains(settings(domains=["value/Humour"]))


def test_nothing_is_expanded_where_expansion_is_off() -> None:
    assert wanted_domains(settings(enabled=False)) == []


def test_the_requests_of_a_round_follow_from_the_pool_and_the_seed() -> None:
    pool = pool_of(9, HONESTY)
    run = settings(target=20)
    wanted = wanted_domains(run)
    assert plan_round(pool, wanted, run, 0) == plan_round(list(pool), wanted, run, 0)
    other = run.model_copy(update={"seed": 12})
    assert plan_round(pool, wanted, run, 0) != plan_round(pool, wanted, other, 0)
    assert plan_round(pool, wanted, run, 0) != plan_round(pool, wanted, run, 1)


def test_the_schema_asks_for_at_most_so_many_prompts() -> None:
    assert schema(3)["properties"]["prompts"]["maxItems"] == 3
