"""A server on 127.0.0.1 for models that are no chat models: Completions, and vLLM's for rewards.

It implements the documented protocols with deterministic answers; what stands for a model behind it
is a function of the text, so results over it are simulated ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

from aiohttp import web

from loopback import Answer, Body, Loopback

PATHS = ("/v1/completions", "/classify", "/pooling")


class ModelServer(Loopback):
    """A ``Loopback`` at other paths; ``paths`` keeps where each call went."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self.paths: list[str] = []

    async def __aenter__(self) -> ModelServer:
        app = web.Application()
        for path in PATHS:
            app.router.add_post(path, self._at)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._port = self._runner.addresses[0][1]
        return self

    async def _at(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path)
        return await self._handle(request)


def continuation(logprobs: Mapping[str, float], *, shape: str = "legacy") -> Body:
    """The body of a Completions call for one token, as vLLM (legacy) or llama-server lists it."""
    token = max(logprobs, key=lambda one: logprobs[one])
    held: Body = {
        "tokens": [token],
        "token_logprobs": [logprobs[token]],
        "top_logprobs": [dict(logprobs)],
        "text_offset": [0],
    }
    if shape == "chat":
        top = [{"token": one, "logprob": value} for one, value in logprobs.items()]
        held = {"content": [{"token": token, "logprob": logprobs[token], "top_logprobs": top}]}
    choice = {"index": 0, "text": token, "logprobs": held, "finish_reason": "length"}
    usage = {"prompt_tokens": 40, "completion_tokens": 1, "total_tokens": 41}
    return {"object": "text_completion", "model": "base", "choices": [choice], "usage": usage}


def classified(reward: float) -> Body:
    """The body of vLLM's ``/classify`` for a model with one class."""
    data = [{"index": 0, "label": "LABEL_0", "probs": [reward], "num_classes": 1}]
    return {"object": "list", "model": "reward", "data": data, "usage": {"prompt_tokens": 30}}


def pooled(*rewards: float) -> Body:
    """The body of vLLM's ``/pooling`` for a model with a reward for each token."""
    data = [{"index": 0, "object": "pooling", "data": [[one] for one in rewards]}]
    return {"object": "list", "model": "reward", "data": data, "usage": {"prompt_tokens": 30}}


def marked(name: str) -> Callable[[str], float]:
    """Reads the number behind a mark, for example ``[[reward=1.5]]``."""
    pattern = re.compile(rf"\[\[{name}=(-?[0-9.]+)\]\]")
    return lambda text: float(pattern.findall(text)[-1])


def yes_no(violation: float, *, positive: bool) -> dict[str, float]:
    """Log-probabilities of the answers of a judge that sees a violation with this probability."""
    yes = 1 - violation if positive else violation
    return {" yes": math.log(yes), " no": math.log(1 - yes)}
