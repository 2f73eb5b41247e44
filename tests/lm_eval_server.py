"""A server that says the same to lm-evaluation-harness as to us: an answer follows the messages.

``verdict`` writes verdicts, some of them broken. ``CompletionServer`` gives the log-probabilities
of yes and no in a chat, and those of every token of a plain text, as servers with a tokenizer of
their own do: a token is a character.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from loopback import Body, Loopback, first_token
from misalign_bench.judge.structured import schema
from misalign_bench.llm.behaviours import Draw, Parameters, judge
from misalign_bench.llm.model import Request, Sample, Sampling
from misalign_bench.records import DIMENSIONS, Message

RATES = Parameters(sensitivity=0.8, specificity=0.85)
BROKEN = 0.15
"""How many verdicts cannot be read."""

_QUESTION = "Message:\n"


def verdict(body: Body) -> str:
    """A written verdict that depends on the messages alone."""
    request = _request(body["messages"], schema=schema(DIMENSIONS))
    draw = Draw.of("judge", 0, request)
    text, _ = judge(request, draw, RATES)
    return text[: len(text) // 2] if draw.chance("broken") < BROKEN else text


def leaning(question: str) -> dict[str, float]:
    """The log-probabilities of yes and no after this question."""
    said = [{"role": "user", "content": question}]
    request = _request(said, options=("yes", "no"), template="judge_few_shot@test")
    _, options = judge(request, Draw.of("judge", 0, request), RATES)
    assert options is not None
    return options


class CompletionServer(Loopback):
    """Chats and plain texts of one model."""

    def __init__(self) -> None:
        super().__init__(lambda body: first_token(leaning(body["messages"][-1]["content"])))

    def more_routes(self) -> list[web.RouteDef]:
        return [
            web.get("/tokenizer_info", self._tokenizer),
            web.post("/tokenize", self._tokenize),
            web.post("/v1/completions", self._completions),
        ]

    async def _tokenizer(self, _: web.Request) -> web.Response:
        return web.json_response({"eos_token": "\x03", "bos_token": None, "chat_template": ""})

    async def _tokenize(self, request: web.Request) -> web.Response:
        return web.json_response({"tokens": [ord(one) for one in (await request.json())["prompt"]]})

    async def _completions(self, request: web.Request) -> web.Response:
        body = await request.json()
        held = body["prompt"] if isinstance(body["prompt"][0], list) else [body["prompt"]]
        choices = [_echoed(number, tokens) for number, tokens in enumerate(held)]
        return web.json_response({"model": "served-model", "choices": choices})


def _echoed(number: int, tokens: list[int]) -> dict[str, Any]:
    """The text with the log-probability of each of its characters, and of one more."""
    text = "".join(map(chr, tokens))
    asked, _, said = text.rpartition(" ")
    question = asked[asked.rindex(_QUESTION) :]
    # What follows the first character of the answer follows from it.
    values = [0.0] * (len(text) + 1)
    values[len(asked)] = leaning(question)[said]
    listed = [{"x": value} for value in values]
    logprobs = {"token_logprobs": values, "top_logprobs": listed, "tokens": [*text, "x"]}
    return {"index": number, "text": f"{text}x", "logprobs": logprobs}


def _request(messages: Sequence[Mapping[str, str]], **what: Any) -> Request:
    said = tuple(Message(one["role"], one["content"]) for one in messages)  # type: ignore[arg-type]
    return Request(said, Sampling(), Sample("target"), **what)
