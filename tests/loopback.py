"""A Chat Completions server on 127.0.0.1 for tests: real HTTP, deterministic, with planned faults.

An answer is a function of the request body alone. Faults are consumed in order, one a call, or
chosen by the body. The server counts, and keeps every body and header that it received.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Body = dict[str, Any]
Answer = Callable[[Body], "str | Body"]


@dataclass(frozen=True)
class Fault:
    """What the server does instead of answering.

    ``drop`` closes the connection without a word; ``delay`` waits before whatever follows, which
    is the ordinary answer if ``status`` is 200 and ``body`` is None.
    """

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drop: bool = False


def text_answer(body: Body) -> str:
    """A short text that depends on messages, sampling and seed."""
    held = json.dumps([body["messages"], body["temperature"], body.get("seed")])
    return f"answer {hashlib.sha256(held.encode()).hexdigest()[:12]}"


def completion(text: str | None, *, finish: str = "stop", **changes: Any) -> Body:
    """The body of a successful call; ``changes`` go into its message."""
    message = {"role": "assistant", "content": text, **changes}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "served-model",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {
            "prompt_tokens": 100,
            "completion_tokens": 10,
            "total_tokens": 110,
            "prompt_tokens_details": {"cached_tokens": 40},
        },
    }


def first_token(logprobs: dict[str, float]) -> Body:
    """The body of a call that asked for the likeliest first tokens."""
    body = completion(max(logprobs, key=lambda token: logprobs[token]), finish="length")
    top = [{"token": token, "logprob": value} for token, value in logprobs.items()]
    body["choices"][0]["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
    return body


class Loopback:
    """The server; use as ``async with Loopback() as server`` and send to ``server.url``."""

    def __init__(
        self,
        answer: Answer = text_answer,
        *,
        faults: Iterable[Fault] = (),
        fault_for: Callable[[Body], Fault | None] = lambda body: None,
        key: str = "",
        models: Iterable[str] | None = None,
        delay: float = 0.0,
        port: int = 0,
    ) -> None:
        self.answer = answer
        self.faults = deque(faults)
        self.fault_for = fault_for
        self.key = key
        self.models = None if models is None else set(models)
        self.delay = delay
        self.calls = 0
        self.in_flight = self.most_in_flight = 0
        self.bodies: list[Body] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self._port = port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    async def __aenter__(self) -> Loopback:
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_post("/v1/chat/completions", self._handle)
        app.router.add_routes(self.more_routes())
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def more_routes(self) -> list[web.RouteDef]:
        """What a kind of server answers besides chats."""
        return []

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.calls += 1
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        self.times.append(asyncio.get_running_loop().time())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._respond(request, body)
        finally:
            self.in_flight -= 1

    async def _respond(self, request: web.Request, body: Body) -> web.StreamResponse:
        fault = self.faults.popleft() if self.faults else self.fault_for(body)
        await asyncio.sleep(fault.delay if fault else self.delay)
        if fault and fault.drop:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if fault and (fault.status != 200 or fault.body is not None):
            said = fault.body if isinstance(fault.body, (str, bytes)) else json.dumps(fault.body)
            raw = said.encode() if isinstance(said, str) else said
            return web.Response(status=fault.status, body=raw, headers=fault.headers)
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            sent = request.headers.get("Authorization", "nothing")
            return _error(401, f"Incorrect API key provided: {sent}")
        if self.models is not None and body["model"] not in self.models:
            return _error(404, f"The model {body['model']} does not exist")
        answer = self.answer(body)
        return web.json_response(completion(answer) if isinstance(answer, str) else answer)


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message}}, status=status)
