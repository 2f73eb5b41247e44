"""Parsers under values that no protocol foresees: huge, deep, many, and no numbers at all."""

from __future__ import annotations

import pytest

from misalign_bench.llm.chat_protocol import decode, refusal
from misalign_bench.llm.model import Failure, Reply, Request, Sample, Sampling
from misalign_bench.llm.retry import Backoff, parse_retry_after
from misalign_bench.llm.structured import parse
from misalign_bench.records import Message, Unscored


def chosen(**changes: object) -> dict[str, object]:
    return {"choices": [{"message": {"content": "yes"}, **changes}]}


@pytest.mark.parametrize(
    "value", [-(10**400), 10**400, float("nan"), float("-inf"), True, False, "-1", None, [], {}]
)
def test_no_log_probability_is_made_of_what_is_none(value: object) -> None:
    top = [{"token": "yes", "logprob": value}, {"token": "no", "logprob": -0.5}]
    request = Request((Message("user", "?"),), Sampling(), Sample("judge"), options=("yes", "no"))
    reply = decode(chosen(logprobs={"content": [{"top_logprobs": top}]}), request)
    assert isinstance(reply, Reply)
    # What is not listed is bounded by the least that is.
    assert reply.options == {"yes": -0.5, "no": -0.5}


@pytest.mark.parametrize("depth", [10, 900, 985, 3000, 9_900, 20_000])
def test_depth_breaks_no_parser(depth: int) -> None:
    schema = {"type": "object", "additionalProperties": False}
    for nested in ("[" * depth + "]" * depth, '{"a": ' * depth + "1" + "}" * depth):
        for text in (nested, f"so: {nested}", f'{{"safety": {nested}}}'):
            assert isinstance(parse(text, schema), Unscored)
        body = f'{{"error": {{"message": {nested}}}}}'.encode()
        assert isinstance(refusal(500, body), Failure)


def test_a_sea_of_objects_is_read_in_time_that_grows_with_its_length() -> None:
    assert isinstance(parse("{} " * 20_000, {"required": ["flagged"]}), Unscored)


@pytest.mark.parametrize(
    "header", ["1e400", "nan", "-5", "soon", "Mon, 32 Foo 2026", "Thu, 01 Jan 9999 00:00:00 +9999"]
)
def test_no_retry_after_is_waited_for_that_is_no_time(header: str) -> None:
    assert Backoff().asked(parse_retry_after(header)) <= Backoff().retry_after_cap


def test_a_context_length_error_teaches_nothing_about_the_form_of_a_request() -> None:
    said = b'{"error": {"message": "max_completion_tokens is too large: maximum context length"}}'
    reply = refusal(400, said)
    assert isinstance(reply, Reply)
    assert (reply.status, reply.text) == ("length", "")
