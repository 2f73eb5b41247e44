"""The openai/ provider and the Chat Completions protocol, against a real server on loopback."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopback import Fault, Loopback, completion, first_token
from misalign_bench.config_model import ModelSettings
from misalign_bench.errors import UserError
from misalign_bench.llm.chat_protocol import decode, payload, refusal
from misalign_bench.llm.model import Failure, Reply, Request, Sample, Sampling
from misalign_bench.llm.openai import OpenAIModel
from misalign_bench.llm.prices import price_of
from misalign_bench.llm.providers import make_model
from misalign_bench.llm.structured import parse
from misalign_bench.records import Message

SCHEMA = {"type": "object", "properties": {"flagged": {"type": "boolean"}}}
OTHER = {"type": "object", "properties": {"label": {"type": "string"}}}


def request(**changes: Any) -> Request:
    values = {"sampling": Sampling(), "sample": Sample("judge"), **changes}
    return Request((Message("system", "be brief"), Message("user", "hello")), **values)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "MY_KEY"):
        monkeypatch.delenv(name, raising=False)


async def send(server: Loopback, *requests: Request, **settings: Any) -> list[Reply | Failure]:
    model = OpenAIModel(ModelSettings(model="openai/m", base_url=server.url, **settings))
    try:
        return [await model.send(one, 5) for one in requests]
    finally:
        await model.close()


async def test_the_payload_is_a_plain_chat_completions_call() -> None:
    async with Loopback() as server:
        (reply,) = await send(server, request())
    assert server.bodies == [
        {
            "model": "m",
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": "hello"},
            ],
            "temperature": 0.7,
            "top_p": 0.9,
            "max_tokens": 512,
            "seed": 5,
        }
    ]
    assert isinstance(reply, Reply)
    assert (reply.input_tokens, reply.output_tokens, reply.cached_tokens) == (100, 10, 40)
    assert reply.served == "served-model"
    assert "Authorization" not in server.headers[0]


async def test_the_key_comes_from_the_variable_that_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_KEY", " the-key-of-mine\n")
    async with Loopback() as server:
        await send(server, request(), key_variable="MY_KEY")
    assert server.headers[0]["Authorization"] == "Bearer the-key-of-mine"


async def test_credentials_in_the_url_are_sent_and_never_shown() -> None:
    async with Loopback() as server:
        url = server.url.replace("//", "//me:password1@") + "?tenant=secret-tenant"
        model = OpenAIModel(ModelSettings(model="openai/m", base_url=url))
        await model.send(request(), 5)
        await model.close()
    assert model.endpoint == server.url
    assert server.headers[0]["Authorization"].startswith("Basic ")


def test_a_missing_key_for_the_public_api_is_one_line() -> None:
    with pytest.raises(UserError, match=r"OPENAI_API_KEY holds no key for openai/gpt-4o-mini"):
        make_model(ModelSettings(model="openai/gpt-4o-mini"))


def test_a_key_that_no_header_may_hold_is_refused_without_showing_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key-with\nnewline")
    with pytest.raises(UserError) as problem:
        make_model(ModelSettings(model="openai/m"))
    assert "newline" not in str(problem.value)


@pytest.mark.parametrize("url", ["ftp://host/v1", "http://", "http://[::1/v1", "http://h:x/v1"])
def test_a_base_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="base_url"):
        OpenAIModel(ModelSettings(model="openai/m", base_url=url))


async def test_the_base_url_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Loopback() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/")
        model = make_model(ModelSettings(model="openai/m"))
        reply = await model.send(request(), 5)
        await model.close()
    assert isinstance(reply, Reply)
    assert model.endpoint == server.url


def test_the_identity_names_provider_model_and_revision_and_no_host() -> None:
    one = OpenAIModel(ModelSettings(model="openai/m@http://127.0.0.1:1/v1"))
    other = OpenAIModel(ModelSettings(model="openai/m@http://127.0.0.1:2/v1"))
    third = OpenAIModel(ModelSettings(model="openai/m@http://127.0.0.1:1/v1", revision="b"))
    assert one.identity == other.identity != third.identity
    assert json.loads(third.identity) == {"model": "m", "provider": "openai", "revision": "b"}
    assert (one.weights, third.weights) == ("openai/m", "openai/m@b")


async def test_options_come_from_the_likeliest_first_tokens() -> None:
    tokens = {" Yes": -0.5, "yes": -2.0, "No": -3.0, "\u0120YES": -4.0, "maybe": -5.0}
    async with Loopback(lambda body: first_token(tokens)) as server:
        (reply,) = await send(server, request(options=("yes", "no", "never")))
    assert isinstance(reply, Reply)
    assert reply.options is not None
    assert reply.options["yes"] == pytest.approx(
        math.log(sum(math.exp(value) for value in (-0.5, -2.0, -4.0)))
    )
    assert reply.options["no"] == -3.0
    assert reply.options["never"] == -5.0  # not listed: bounded by the least that is
    assert reply.status == "ok"
    sent = server.bodies[0]
    assert (sent["max_tokens"], sent["logprobs"], sent["top_logprobs"]) == (1, True, 20)


async def test_a_certain_option_has_probability_one() -> None:
    async with Loopback(lambda body: first_token({"yes": 0.0, "no": -30.0})) as server:
        (reply,) = await send(server, request(options=("yes", "no")))
    assert isinstance(reply, Reply)
    assert reply.options == {"yes": 0.0, "no": -30.0}


async def test_a_server_without_log_probabilities_gives_no_options() -> None:
    async with Loopback() as server:
        (reply,) = await send(server, request(options=("yes", "no")))
    assert isinstance(reply, Reply)
    assert reply.options is None


def refuses(field: str, message: str) -> Any:
    """A server that answers 400 to every body that holds the field."""
    fault = Fault(400, {"error": {"message": message}})
    return lambda body: fault if field in json.dumps(body) else None


async def test_a_server_without_schemas_is_asked_for_plain_text_and_remembered() -> None:
    def answer(body: dict[str, Any]) -> str:
        return 'Sure: {"flagged": true}'

    fault = refuses("response_format", "response_format json_schema is not supported")
    async with Loopback(answer, fault_for=fault) as server:
        replies = await send(server, *[request(schema=SCHEMA)] * 3)
    assert server.calls == 4
    assert [parse(reply.text, SCHEMA) for reply in replies] == [{"flagged": True}] * 3  # type: ignore[union-attr]


async def test_a_server_that_takes_one_schema_and_not_another_is_asked_accordingly() -> None:
    fault = refuses('"label"', "Invalid schema for response_format 'answer'")
    async with Loopback(lambda body: "{}", fault_for=fault) as server:
        await send(server, request(schema=OTHER), request(schema=SCHEMA), request(schema=OTHER))
    assert ["response_format" in body for body in server.bodies] == [True, False, True, False]


@pytest.mark.parametrize(
    ("field", "message", "expected"),
    [
        ('"top_logprobs": 20', "top_logprobs must be at most 5", {"top_logprobs": 5}),
        ('"top_logprobs"', "logprobs are not supported", {"logprobs": None}),
        (
            '"max_tokens"',
            "Unsupported parameter: use 'max_completion_tokens'",
            {"max_completion_tokens": 1, "max_tokens": None},
        ),
        ('"seed"', "extra fields not permitted: seed", {"seed": None}),
    ],
)
async def test_what_a_server_does_not_know_is_left_out(
    field: str, message: str, expected: dict[str, Any]
) -> None:
    async with Loopback(fault_for=refuses(field, message)) as server:
        (reply,) = await send(server, request(options=("yes", "no")))
    assert isinstance(reply, Reply)
    assert {name: server.bodies[-1].get(name) for name in expected} == expected


async def test_a_redirect_is_not_followed_with_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-of-mine")
    async with Loopback() as other:
        fault = Fault(307, "moved", {"Location": f"{other.url}/chat/completions"})
        async with Loopback(faults=[fault]) as server:
            (failure,) = await send(server, request())
    assert isinstance(failure, Failure)
    assert failure.fatal
    assert other.calls == 0


async def test_a_body_without_end_is_cut_off() -> None:
    huge = b'{"choices": "' + b"x" * (17 * 2**20)
    async with Loopback(faults=[Fault(200, huge)]) as server:
        (failure,) = await send(server, request())
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.passing) == ("oversized", True)


async def test_half_a_surrogate_pair_in_an_answer_is_replaced() -> None:
    raw = json.dumps(completion("half a pair: \ud83d, a whole one: \U0001f600"))
    async with Loopback(faults=[Fault(200, raw)]) as server:
        (reply,) = await send(server, request())
    assert isinstance(reply, Reply)
    assert reply.text == "half a pair: \ufffd, a whole one: \U0001f600"


async def test_content_in_parts_is_joined() -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "answer"}]
    async with Loopback(lambda body: completion(parts)) as server:  # type: ignore[arg-type]
        (reply,) = await send(server, request())
    assert isinstance(reply, Reply)
    assert reply.text == "one answer"


async def test_a_configured_price_gives_a_cost() -> None:
    price = {"input": 10.0, "output": 100.0, "cached_input": 1.0}
    async with Loopback() as server:
        (reply,) = await send(server, request(), price=price)
        (unpriced,) = await send(server, request())
    assert isinstance(reply, Reply)
    assert isinstance(unpriced, Reply)
    assert reply.cost == pytest.approx((60 * 10 + 40 * 1 + 10 * 100) / 1e6)
    assert unpriced.cost is None


def test_listed_prices_hold_for_the_public_api_only() -> None:
    listed = price_of(ModelSettings(model="openai/gpt-4o-mini"))
    assert listed is not None
    assert price_of(ModelSettings(model="inspect/openai/gpt-4o-mini")) == listed
    assert price_of(ModelSettings(model="openai/gpt-4o-mini@http://127.0.0.1:1/v1")) is None
    assert price_of(ModelSettings(model="openai/no-such-model")) is None


@pytest.mark.parametrize(
    ("status", "body", "kind", "passing", "fatal"),
    [
        (401, b"", "unauthorized", False, True),
        (402, b"", "quota", False, True),
        (429, b'{"error": {"code": "insufficient_quota"}}', "quota", False, True),
        (429, b"", "rate_limited", True, False),
        (408, b"", "timeout", True, False),
        (500, b"<html>", "server_error", True, False),
        (501, b"", "rejected", False, False),
        (503, b"", "unavailable", True, False),
        (529, b"", "unavailable", True, False),
        (418, b"\xff\xfe", "rejected", False, False),
    ],
)
def test_each_http_status_has_its_meaning(
    status: int, body: bytes, kind: str, passing: bool, fatal: bool
) -> None:
    failure = refusal(status, body)
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.passing, failure.fatal) == (kind, passing, fatal)


FIELDS = [
    *("choices", "message", "content", "logprobs", "top_logprobs", "token", "logprob", "usage"),
    *("prompt_tokens", "prompt_tokens_details", "cached_tokens", "refusal", "finish_reason"),
    *("model", "error", "text"),
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(FIELDS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)


@given(json_values, st.booleans())
def test_no_body_breaks_the_decoder(body: Any, options: bool) -> None:
    asked = request(options=("yes", "no") if options else ())
    assert isinstance(decode(body, asked), (Reply, Failure))
    choice = {"message": body, "logprobs": body, "finish_reason": body}
    assert isinstance(decode({"choices": [choice], "usage": body}, asked), (Reply, Failure))


@given(st.text(), st.floats(0, 2), st.integers(1, 4096), st.integers(0, 2**31 - 1))
def test_every_request_has_a_json_payload(
    text: str, temperature: float, max_tokens: int, seed: int
) -> None:
    asked = Request(
        (Message("user", text),), Sampling(temperature, 0.5, max_tokens), Sample("judge")
    )
    body = json.loads(json.dumps(payload(asked, seed, "m")))
    assert body["messages"] == [{"role": "user", "content": text}]
    assert (body["temperature"], body["max_tokens"], body["seed"]) == (
        temperature,
        max_tokens,
        seed,
    )
