"""The bias probes find a judge that was built with a bias, and none where there is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from misalign_bench.bench.probes import MOST_SENTENCES, PADDING, Probed, padded, probe
from misalign_bench.judge.consistency import SWAPPED, Asked
from misalign_bench.judge.guardrail.families import FAMILIES
from misalign_bench.judge.guardrail.guardrail import GuardrailJudge
from misalign_bench.judge.judge import Judge
from misalign_bench.judge.logprob import LogprobJudge
from misalign_bench.judge.structured import StructuredJudge
from misalign_bench.llm.model import Failure, Reply, Request, Sampling
from misalign_bench.records import DIMENSIONS, Pending
from scripted import Scripted, asking

SAMPLE = 40
GREEDY = Sampling(0.0, 1.0, 64)


def asked() -> list[Asked]:
    """Responses of which every fourth is bad in safety."""
    return [
        Asked(
            f"r{number}",
            f"Question {number}?",
            f"Answer {number}. {'bad:safety' if number % 4 == 0 else 'fine'}",
            f"p{number}",
        )
        for number in range(SAMPLE)
    ]


def written(request: Request, flags: Callable[[str, str], bool]) -> str:
    """A written verdict that flags a dimension as told by the reply and the dimension."""
    text = request.messages[-1].content
    field = {"reason": "", "span": "", "severity": 0}
    assert request.schema is not None
    order = list(request.schema["properties"])
    return json.dumps({name: field | {"violates": flags(text, name)} for name in order})


def fair(request: Request) -> str:
    return written(request, lambda text, name: f"bad:{name}" in text)


def likes_length(request: Request) -> str:
    """Passes whatever is padded."""
    long = PADDING[0] in request.messages[-1].content
    return written(request, lambda text, name: f"bad:{name}" in text and not long)


def flags_the_first(request: Request) -> str:
    """Flags whatever dimension it is asked about first."""
    assert request.schema is not None
    first = next(iter(request.schema["properties"]))
    return written(request, lambda text, name: name == first)


async def probed(
    path: Path, answer: Callable[[Request], str | Reply | Failure]
) -> Probed | Pending:
    async with asking(path / "journal.sqlite", Scripted(answer)) as (client,):
        return await probe(StructuredJudge(client, "judge", GREEDY), asked())


async def test_a_fair_judge_changes_nothing(tmp_path: Path) -> None:
    found = await probed(tmp_path, fair)
    assert isinstance(found, Probed)
    assert found.position is not None
    for changes in (found.length, found.position):
        assert set(changes) == {"joint", *DIMENSIONS}
        for change in changes.values():
            assert (change.value, change.low, change.n, change.direction) == (0, 0, SAMPLE, 0)
            assert change.high == pytest.approx(0.0876, abs=1e-4)


async def test_a_judge_that_likes_length_is_found_with_its_direction(tmp_path: Path) -> None:
    found = await probed(tmp_path, likes_length)
    assert isinstance(found, Probed)
    assert found.position is not None
    joint = found.length["joint"]
    assert (joint.value, joint.to_flagged, joint.to_passed) == (0.25, 0, 10)
    assert joint.direction == -0.25
    assert joint.low is not None
    assert joint.low > 0.1
    assert found.length["value"].value == 0
    assert found.position["joint"].value == 0


async def test_a_judge_that_flags_what_comes_first_is_found_by_the_swap(tmp_path: Path) -> None:
    found = await probed(tmp_path, flags_the_first)
    assert isinstance(found, Probed)
    assert found.position is not None
    assert (found.position["safety"].value, found.position["safety"].direction) == (1, -1)
    assert (found.position["culture"].value, found.position["culture"].direction) == (1, 1)
    assert found.position["value"].value == 0
    assert found.length["safety"].value == 0


async def test_a_logprob_judge_shows_how_far_its_probability_moves(tmp_path: Path) -> None:
    def leaning(request: Request) -> Reply:
        swapped = SWAPPED in request.messages[0].content
        return Reply(
            "", options={"yes": -2.0 if swapped else -0.1, "no": -0.1 if swapped else -2.0}
        )

    async with asking(tmp_path / "journal.sqlite", Scripted(leaning)) as (client,):
        found = await probe(LogprobJudge(client, "judge", "satisfies", 0.5), asked())
    assert isinstance(found, Probed)
    assert found.position is not None
    assert found.position["safety"].direction == 1
    assert found.position["safety"].shift == pytest.approx(0.7398, abs=1e-4)
    assert found.length["safety"].shift == 0


async def test_a_guardrail_has_no_order_to_swap(tmp_path: Path) -> None:
    async with asking(tmp_path / "journal.sqlite", Scripted(lambda _: "safe")) as (client,):
        judge: Judge = GuardrailJudge(client, "judge", FAMILIES["llama_guard"])
        found = await probe(judge, asked())
    assert isinstance(found, Probed)
    assert found.position is None
    assert found.length["joint"].value == 0
    assert found.as_table()["position"] is None


async def test_verdicts_that_did_not_come_out_both_times_are_counted_apart(tmp_path: Path) -> None:
    def stumbles(request: Request) -> str:
        return "well" if PADDING[0] in request.messages[-1].content else fair(request)

    found = await probed(tmp_path, stumbles)
    assert isinstance(found, Probed)
    assert (found.length["joint"].n, found.length["joint"].unscored) == (0, SAMPLE)
    assert found.length["joint"].value is None


async def test_a_probe_without_an_answer_waits(tmp_path: Path) -> None:
    def late(request: Request) -> str | Failure:
        text = request.messages[-1].content
        return Failure("timeout", "nobody answers") if PADDING[0] in text else fair(request)

    found = await probed(tmp_path, late)
    assert isinstance(found, Pending)
    assert found.detail == "timeout: nobody answers"


def test_padding_doubles_the_words_up_to_a_limit_and_keeps_the_response() -> None:
    short, long = padded("One two."), padded("word " * 10_000)
    assert short.startswith("One two.\n\n")
    assert len(short.split()) >= 4
    assert 2 * 100 <= len(padded("word " * 100).split()) < 2 * 100 + 20
    assert long.count(".") == MOST_SENTENCES
