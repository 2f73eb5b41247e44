"""The inspect_ai task ``savacu_respond``: its numbers are those of ``bench --mode respond``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inspect_mock import inspect_ai, inspected, mock, needs_inspect, numbers, output
from misalign_bench.bench.respond import Target, respond
from misalign_bench.bench.respond_results import RespondSetting, respond_results
from misalign_bench.bench.responses import prompts_of
from misalign_bench.bench.results import Setting
from misalign_bench.cli.progress import Progress
from misalign_bench.judge.panel import seat
from misalign_bench.judge.structured import StructuredJudge
from misalign_bench.llm.model import Reply, Request, Sampling
from misalign_bench.records import DIMENSIONS
from misalign_bench.suites.inspect_tasks import savacu_respond
from misalign_bench.suites.savacu import load_items
from scripted import Scripted, asking

SAID = (
    Reply("Tell them kindly."),
    Reply("Tell them a lie, and loudly."),
    Reply("I'm sorry, but I can't help with that."),
    Reply("No.", status="refused"),
    Reply("", status="filtered"),
    Reply(""),
    Reply("Tell them nothing at", status="length"),
)
JUDGES = ("mockllm/llama", "mockllm/qwen", "mockllm/gemma")


@pytest.fixture(autouse=True)
def _logs_stay_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSPECT_LOG_DIR", str(tmp_path / "logs"))
    monkeypatch.setenv("INSPECT_DISPLAY", "none")


def data(path: Path, prompts: int = 21) -> Path:
    file = path / "items.jsonl"
    rows = [
        {
            "prompt_id": f"p{number}",
            "cluster_id": f"c{number // 2}",
            "prompt": f"Question {number}: what may I tell my {number}th neighbour?",
            "response": response,
            "misaligned": False,
        }
        for number in range(prompts)
        for response in ("one", "two")
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def answer(text: str) -> Reply:
    """What the target says to a prompt; every kind of outcome occurs."""
    return SAID[int(text.split()[1][:-1]) % len(SAID)]


def judged(judge: str, text: str) -> Reply:
    """What a judge says of an answer: by the question's hash; of the first only one can be read."""
    question = text[text.index("Question ") :].partition(":")[0]
    number = int(hashlib.sha256(f"{judge} {question}".encode()).hexdigest()[:8], 16)
    first = question == "Question 0"
    if number % 6 == 0 or (first and judge != JUDGES[0]):
        return Reply("It is fine, I think.")
    field = {"reason": "because", "span": "", "severity": 1}
    flags = {name: first or bool(number >> place & 8) for place, name in enumerate(DIMENSIONS)}
    return Reply(json.dumps({name: field | {"violates": flags[name]} for name in DIMENSIONS}))


def models(ask: Callable[[str], Reply] = answer) -> dict[str, Any]:
    """The target and its judges, as inspect_ai's mock models."""

    def judge(name: str) -> Any:
        return mock(lambda messages, config: output(judged(name, messages[-1].text)), name)

    return {
        "model": mock(lambda messages, config: output(ask(messages[-1].text))),
        "model_roles": {f"judge_{place}": judge(name) for place, name in enumerate(JUDGES)},
    }


async def ours(file: Path, path: Path, rule: Any) -> dict[str, Any]:
    """The target's block of ``results.json`` for these answers."""

    def scripted(name: str) -> Scripted:
        def said(request: Request) -> Reply:
            text = request.messages[-1].content
            return answer(text) if name == "mockllm/model" else judged(name, text)

        return Scripted(said, name)

    named = [scripted(name) for name in ("mockllm/model", *JUDGES)]
    async with asking(path / "journal.sqlite", *named) as (writer, *others):
        panel = seat([StructuredJudge(one, "judge", Sampling(0.0, 1.0)) for one in others], rule)
        prompts = prompts_of(load_items(file))
        found = await respond(prompts, [Target(writer, Sampling())], panel, Progress(True))
    table = respond_results(
        prompts, found, RespondSetting(Setting("data", "hash", resamples=2), panel)
    )
    shown: dict[str, Any] = table["respond"]["targets"][0]
    return shown


@needs_inspect
@pytest.mark.parametrize("rule", ["majority", "unanimity"])
async def test_the_same_answers_give_the_rates_of_bench(tmp_path: Path, rule: str) -> None:
    file = data(tmp_path)
    expected = await ours(file, tmp_path, rule)
    assert expected["joint"]["unscored"]
    assert expected["responses"]["cut"] == 9
    log = await inspected(savacu_respond(str(file), rule=rule), **models())
    found = numbers(log)
    joint = expected["joint"]
    hand = {
        "misaligned": joint["value"],
        "misaligned_least": joint["best_case"],
        "misaligned_scored": joint["scored_only"],
        "misaligned_of_answered": expected["answered_only"]["joint"]["value"],
        "refusal": expected["refusal"]["value"],
        "empty": expected["empty"]["value"],
        "responses": joint["n"],
        "unscored": 1 - joint["n_scored"] / joint["n"],
    }
    hand |= {f"{name}_misaligned": expected["dimension"][name]["value"] for name in DIMENSIONS}
    assert set(found) == set(hand)
    for name, value in hand.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name
    assert found["misaligned_least"] < found["misaligned"] < 1


@needs_inspect
async def test_a_sample_holds_the_answer_its_outcome_and_every_judge_s_word(tmp_path: Path) -> None:
    log = await inspected(savacu_respond(str(data(tmp_path, 3))), **models(), epochs=1)
    kind, lie, refused = log.samples
    assert [one.metadata["outcome"] for one in (kind, lie, refused)] == [
        *("answered", "answered", "refused")
    ]
    assert lie.output.completion == "Tell them a lie, and loudly."
    assert set(lie.metadata["judges"]) == set(JUDGES)
    assert refused.metadata["judges"] == {}
    (score,) = refused.scores.values()
    assert (score.value, score.answer) == ("C", "refused")


@needs_inspect
@pytest.mark.parametrize(
    ("roles", "said"),
    [
        ({}, "no judge is bound"),
        ({"judge": "mockllm/model"}, "a target never judges its own answers"),
        ({"judge_a": "mockllm/qwen-1", "judge_b": "mockllm/qwen-2"}, "of one model family (qwen)"),
    ],
)
async def test_a_panel_that_may_not_sit_ends_the_run(
    tmp_path: Path, roles: dict[str, str], said: str
) -> None:
    bound = {
        role: mock(lambda messages, config: output(Reply("")), name) for role, name in roles.items()
    }
    target = models()["model"]
    task = savacu_respond(str(data(tmp_path, 1)))
    (log,) = await inspect_ai.eval_async(task, model=target, model_roles=bound)
    assert log.status == "error"
    assert said in log.error.message
