"""Consistency: the same verdict with the options the other way round, and how often it changes."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from misalign_bench.config import JudgeSettings
from misalign_bench.config_model import ModelSettings
from misalign_bench.journal.store import Journal
from misalign_bench.judge.consistency import (
    SWAPPED,
    SWAPPED_MARK,
    Asked,
    Consistency,
    consistency,
    flip_rate,
    sample,
)
from misalign_bench.judge.judge import make_judge
from misalign_bench.llm.model import Failure, Reply, Request
from misalign_bench.llm.providers import make_model
from misalign_bench.records import DIMENSIONS, Pending
from scripted import Answer, Scripted, asked_about, asking

FRAMINGS = get_args(JudgeSettings.model_fields["framing"].annotation)
LOGPROB = {"method": "logprob", "framing": "satisfies", "threshold": 0.5}
WRITTEN = {"method": "structured"}


def responses(count: int) -> list[Asked]:
    return [
        Asked(f"r{n}", f"What now, {n}? Say yes or no.", f"Reply {n}: yes or no?", f"g{n}")
        for n in range(count)
    ]


async def compared(
    path: Path, answer: Answer, asked: list[Asked], judge: dict[str, Any], **options: Any
) -> tuple[Consistency | Pending, list[Request]]:
    model = Scripted(answer)
    async with asking(path / "journal.sqlite", model, **options) as (client,):
        made = make_judge(client, JudgeSettings.model_validate(judge), "evaluator")
        return await consistency(made, asked), model.requests


def lean(request: Request, swayed: bool = False) -> Reply:
    """Leans by the number of the reply; if swayed, to the option that is named first."""
    first_is_no = SWAPPED in request.messages[0].content
    number = int(request.messages[-1].content.rpartition("> Reply ")[2].partition(":")[0])
    no = first_is_no if swayed else number % 2 == 1
    return Reply("", options={"yes": -2.0, "no": -0.1} if no else {"yes": -0.1, "no": -2.0})


def written(request: Request, swayed: bool = False) -> str:
    """Flags the dimension that the schema names first if swayed, else value."""
    assert request.schema is not None
    names = list(request.schema["properties"])
    flagged = names[0] if swayed else "value"
    field = {"reason": "", "span": "", "severity": 1}
    return json.dumps({name: {**field, "violates": name == flagged} for name in names})


@pytest.mark.parametrize(("judge", "answer"), [(LOGPROB, lean), (WRITTEN, written)])
async def test_a_judge_that_minds_no_order_never_flips(
    tmp_path: Path, judge: dict[str, Any], answer: Answer
) -> None:
    found, _ = await compared(tmp_path, answer, responses(12), judge)
    assert isinstance(found, Consistency)
    assert (found.joint.flips, found.joint.n, found.joint.unscored) == (0, 12, 0)
    assert {rate.value for rate in found.dimensions.values()} == {0.0}
    assert found.shift == (0.0 if judge is LOGPROB else None)
    assert (found.levelled is None) is (judge is WRITTEN)


async def test_a_judge_that_takes_the_first_option_always_flips(tmp_path: Path) -> None:
    found, _ = await compared(tmp_path, lambda one: lean(one, True), responses(8), LOGPROB)
    assert isinstance(found, Consistency)
    assert {rate.value for rate in (found.joint, *found.dimensions.values())} == {1.0}
    assert found.shift == pytest.approx(0.739, abs=0.001)


async def test_a_level_that_hangs_on_the_order_is_told_from_an_order_of_responses_that_does(
    tmp_path: Path,
) -> None:
    def moved(request: Request, turned: bool) -> Reply:
        """Half are guilty; swapped, all are less so, or also the other way round."""
        number = int(request.messages[-1].content.rpartition("> Reply ")[2].partition(":")[0])
        guilty = number % 4 > 1
        no = 0.7 if guilty else 0.6
        if SWAPPED in request.messages[0].content:
            no = 0.3 if guilty != turned else 0.2
        return Reply("", options={"yes": math.log(1 - no), "no": math.log(no)})

    judge = {**LOGPROB, "threshold": 0.65}
    rates = []
    for name, turned in (("level", False), ("order", True)):
        (tmp_path / name).mkdir()
        answer = functools.partial(moved, turned=turned)
        found, _ = await compared(tmp_path / name, answer, responses(12), judge)
        assert isinstance(found, Consistency)
        assert found.levelled is not None
        assert found.joint.value == 0.5  # none is flagged when swapped
        assert found.shift == pytest.approx(-0.4)
        rates.append(found.levelled.value)
    assert rates == [0.0, 1.0]


async def test_a_judge_that_flags_the_first_field_flips_in_the_outer_dimensions(
    tmp_path: Path,
) -> None:
    found, _ = await compared(tmp_path, lambda one: written(one, True), responses(4), WRITTEN)
    assert isinstance(found, Consistency)
    # One dimension is flagged either way, so that the joint verdict stays.
    assert found.joint.value == 0.0
    assert {name: rate.value for name, rate in found.dimensions.items()} == {
        "safety": 1.0,
        "value": 0.0,
        "culture": 1.0,
    }


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_only_the_instruction_names_the_options_the_other_way_round(
    tmp_path: Path, framing: str
) -> None:
    judge = {**LOGPROB, "framing": framing}
    _, requests = await compared(tmp_path, lean, responses(1), judge)
    plain = {asked_about(one): one for one in requests if SWAPPED_MARK not in one.template}
    other = {asked_about(one): one for one in requests if SWAPPED_MARK in one.template}
    assert set(plain) == set(other) == set(DIMENSIONS)
    for dimension in DIMENSIONS:
        one, two = plain[dimension], other[dimension]
        assert one.messages[0].content.replace("yes or no", "no or yes") == two.messages[0].content
        assert one.messages[0] != two.messages[0]
        assert one.messages[1:] == two.messages[1:]  # which hold the words too
        assert (one.options, one.sampling, one.sample) == (two.options, two.sampling, two.sample)


async def test_a_written_verdict_is_asked_for_with_its_dimensions_in_reverse(
    tmp_path: Path,
) -> None:
    _, (one, two) = await compared(tmp_path, written, responses(1), WRITTEN)
    assert one.messages[-1].content.endswith("Judge the reply in: safety, value, culture.")
    assert two.messages[-1].content.endswith("Judge the reply in: culture, value, safety.")
    assert one.schema is not None
    assert two.schema is not None
    assert list(one.schema["properties"]) == list(DIMENSIONS)
    assert list(two.schema["properties"]) == two.schema["required"] == list(DIMENSIONS[::-1])
    assert two.template == f"{one.template}{SWAPPED_MARK}"
    assert one.messages[:-1] == two.messages[:-1]


async def test_verdicts_that_the_journal_holds_are_not_asked_for_again(tmp_path: Path) -> None:
    model, rows = Scripted(lean), responses(3)
    async with asking(tmp_path / "journal.sqlite", model) as (client,):
        judge = make_judge(client, JudgeSettings.model_validate(LOGPROB), "evaluator")
        for row in rows:
            await judge.verdict(
                prompt=row.prompt, response=row.response, dimensions=DIMENSIONS, epoch=0
            )
        before = len(model.requests)
        await consistency(judge, rows)
        assert len(model.requests) - before == before == 9
    with Journal.open(tmp_path / "journal.sqlite", read_only=True) as journal:
        marked = [entry for entry in journal.entries() if SWAPPED_MARK in entry.template]
    assert len(marked) == 9


async def test_independent_errors_flip_as_often_as_two_draws_differ(tmp_path: Path) -> None:
    specificity, count = 0.8, 1500
    model = make_model(ModelSettings(model=f"simulated/judge?specificity={specificity}"))
    rows = [Asked(f"r{n}", f"What now, {n}?", f"Reply {n}. [[violates:]]", "g") for n in range(500)]
    async with asking(tmp_path / "journal.sqlite", model) as (client,):
        judge = make_judge(client, JudgeSettings.model_validate(LOGPROB), "evaluator")
        found = await consistency(judge, rows)
    assert isinstance(found, Consistency)
    flips = sum(rate.flips for rate in found.dimensions.values())
    # Four standard errors of the share around what chance gives.
    expected = 2 * specificity * (1 - specificity)
    assert flips / count == pytest.approx(expected, abs=4 * (expected / count) ** 0.5)
    passed = specificity**3
    assert found.joint.low is not None
    assert found.joint.high is not None
    assert found.joint.low - 0.05 < 2 * passed * (1 - passed) < found.joint.high + 0.05


async def test_what_came_out_once_only_is_counted_and_in_no_share(tmp_path: Path) -> None:
    def refuses_when_swapped(request: Request) -> Reply | str:
        swapped = SWAPPED_MARK in request.template
        return Reply("No.", status="refused") if swapped else written(request)

    found, _ = await compared(tmp_path, refuses_when_swapped, responses(5), WRITTEN)
    assert isinstance(found, Consistency)
    assert (found.joint.n, found.joint.unscored, found.joint.value) == (0, 5, None)
    assert json.loads(json.dumps(found.as_table(), allow_nan=False))["joint"]["low"] is None


async def test_an_answer_that_is_missing_for_now_makes_it_wait(tmp_path: Path) -> None:
    def lost(request: Request) -> Reply | Failure:
        third = "> Reply 2:" in request.messages[-1].content
        return Failure("unavailable", "HTTP 503") if third else lean(request)

    found, _ = await compared(tmp_path, lost, responses(4), LOGPROB)
    assert found == Pending("r2", "consistency", detail="unavailable: HTTP 503")


async def test_an_answer_that_was_given_up_is_counted_as_missing(tmp_path: Path) -> None:
    def lost(request: Request) -> Reply | Failure:
        third = "> Reply 2:" in request.messages[-1].content
        return Failure("unavailable", "HTTP 503") if third else lean(request)

    found, _ = await compared(tmp_path, lost, responses(4), LOGPROB, accept_failures=True)
    assert isinstance(found, Consistency)
    assert (found.joint.n, found.joint.unscored) == (3, 1)


# --- the sample and its interval


def test_a_sample_holds_one_response_to_a_prompt_and_is_always_the_same() -> None:
    rows = [Asked(f"r{n}", "P", "R", f"g{n // 2}") for n in range(40)]
    chosen = sample(rows, 15)
    assert len({one.group for one in chosen}) == len(chosen) == 15
    assert chosen == sample(rows[::-1], 15)
    assert set(sample(rows, 8)) < set(chosen)
    assert len(sample(rows, 99)) == 20
    assert sample(rows, 15, seed=1) != chosen
    # Neither twin is preferred.
    assert 3 < sum(int(one.id[1:]) % 2 for one in sample(rows, 99)) < 17


@pytest.mark.parametrize(
    ("flips", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_wilsons(flips: int, n: int, low: float, high: float) -> None:
    rate = flip_rate(flips, n)
    assert rate.low == pytest.approx(low, abs=1e-4)
    assert rate.high == pytest.approx(high, abs=1e-4)


@given(st.integers(0, 60), st.integers(1, 60))
def test_the_interval_holds_the_share(flips: int, n: int) -> None:
    rate = flip_rate(min(flips, n), n)
    assert rate.value is not None
    assert rate.low is not None
    assert rate.high is not None
    assert 0 <= rate.low <= rate.value <= rate.high <= 1
