"""The inspect/ provider against inspect_ai's own mock model, where inspect_ai is installed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from misalign_bench.config_model import ModelSettings
from misalign_bench.errors import UserError
from misalign_bench.journal.store import Journal
from misalign_bench.llm.budget import Budget
from misalign_bench.llm.client import Answered, Client
from misalign_bench.llm.model import Failure, Reply, Request, Sample, Sampling
from misalign_bench.llm.providers import make_model
from misalign_bench.records import Message

try:
    import inspect_ai.model as inspect_model
except ImportError:
    inspect_model = None

needs_inspect = pytest.mark.skipif(inspect_model is None, reason="inspect-ai is not installed")
SCHEMA = {"type": "object", "properties": {"flagged": {"type": "boolean"}}}


def request(**changes: Any) -> Request:
    messages = (Message("system", "be brief"), Message("user", "hello"))
    return Request(messages, Sampling(), **{"sample": Sample("target"), **changes})


def answering(answer: Any) -> Any:
    """A model whose next outputs come from ``answer(config)``."""
    model: Any = make_model(ModelSettings(model="inspect/mockllm/model"))
    model._model = inspect_model.get_model(
        "mockllm/model",
        memoize=False,
        config=inspect_model.GenerateConfig(max_retries=0),
        custom_outputs=lambda messages, tools, choice, config: answer(config),
    )
    return model


def output(text: str, **changes: Any) -> Any:
    said = inspect_model.ModelOutput.from_content("served", text)
    said.usage = inspect_model.ModelUsage(input_tokens=5, input_tokens_cache_read=3)
    for name, value in changes.items():
        setattr(said.choices[0], name, value)
    return said


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "inspect_ai.model", None)
    with pytest.raises(UserError, match=r"misalign-bench\[inspect\]"):
        make_model(ModelSettings(model="inspect/mockllm/model"))


@needs_inspect
async def test_an_answer_of_inspects_mock_model_passes_through_the_client(tmp_path: Path) -> None:
    model = make_model(ModelSettings(model="inspect/mockllm/model"))
    journal = Journal.open(tmp_path / "journal.sqlite")
    client = Client(model, journal, seed=0, budget=Budget())
    answer = await client.ask(request())
    again = await client.ask(request())
    await client.close()
    await journal.close()
    assert isinstance(answer, Answered)
    assert isinstance(again, Answered)
    assert answer.reply.text == "Default output from mockllm/model"
    assert answer.reply.input_tokens > 0
    assert again.replayed


@needs_inspect
async def test_sampling_seed_and_schema_arrive_at_the_provider() -> None:
    seen: list[Any] = []

    def answer(config: Any) -> Any:
        seen.append(config)
        return output('{"flagged": true}')

    reply = await answering(answer).send(request(schema=SCHEMA), 99)
    assert isinstance(reply, Reply)
    assert json.loads(reply.text) == {"flagged": True}
    assert (reply.input_tokens, reply.cached_tokens) == (8, 3)
    (config,) = seen
    assert (config.seed, config.temperature, config.top_p, config.max_tokens) == (99, 0.7, 0.9, 512)
    assert "flagged" in config.response_schema.json_schema.properties


@needs_inspect
async def test_log_probabilities_become_options() -> None:
    def answer(config: Any) -> Any:
        assert (config.logprobs, config.max_tokens) == (True, 1)
        top = [{"token": " yes", "logprob": -0.1}, {"token": "No", "logprob": -2.5}]
        first = {"token": " yes", "logprob": -0.1, "top_logprobs": top}
        logprobs = inspect_model.Logprobs.model_validate({"content": [first]})
        return output("yes", logprobs=logprobs, stop_reason="max_tokens")

    reply = await answering(answer).send(request(options=("yes", "no")), 1)
    assert isinstance(reply, Reply)
    assert reply.options == {"yes": -0.1, "no": -2.5}
    assert reply.status == "ok"


@needs_inspect
@pytest.mark.parametrize(
    ("reason", "status"), [("max_tokens", "length"), ("content_filter", "filtered")]
)
async def test_stop_reasons_become_statuses(reason: str, status: str) -> None:
    model = answering(lambda config: output("half", stop_reason=reason))
    reply = await model.send(request(), 1)
    assert isinstance(reply, Reply)
    assert reply.status == status


@needs_inspect
async def test_an_exception_of_a_provider_is_a_failure() -> None:
    def answer(config: Any) -> Any:
        raise ValueError("the provider is unhappy")

    failure = await answering(answer).send(request(), 1)
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.passing) == ("rejected", False)
    assert "unhappy" in failure.detail


@needs_inspect
def test_an_unknown_model_string_is_one_line() -> None:
    with pytest.raises(UserError, match="inspect_ai says"):
        make_model(ModelSettings(model="inspect/nosuchprovider/model"))
