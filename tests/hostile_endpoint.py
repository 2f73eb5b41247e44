"""A Chat Completions server on 127.0.0.1 that misbehaves on a seeded schedule.

Raw sockets in a thread. An answer is a function of the request body alone (``endpoint.behave``),
and so is what goes wrong: the schedule sees the body and how often it came before.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from endpoint import behave, identity_of
from hostile_faults import FAULTS, Exchange, http
from loopback import Body

Schedule = Callable[[Body, int], str]
"""The fault for a body that came so often before; an empty name for the honest answer."""


def never(_: Body, __: int) -> str:
    """The schedule of a server in order."""
    return ""


def first(name: str, times: int = 1) -> Schedule:
    """Each request fails so often, then it is answered."""
    return lambda _, before: name if before < times else ""


def mixed(seed: int, share: float, names: Iterable[str], most: int = 3) -> Schedule:
    """A share of all calls fails, drawn by seed, request and try; none more than ``most`` times."""
    held = sorted(names)

    def schedule(body: Body, before: int) -> str:
        drawn = hashlib.sha256(f"{seed}:{before}:{identity_of(body)}".encode()).digest()
        chance = int.from_bytes(drawn[:4], "big") / 2**32
        return held[int(chance / share * len(held))] if before < most and chance < share else ""

    return schedule


def planted(by_words: Mapping[str, str]) -> Schedule:
    """Requests whose messages hold these words fail for good, each with its own fault."""

    def schedule(body: Body, _: int) -> str:
        text = json.dumps(body["messages"])
        return next((name for words, name in by_words.items() if words in text), "")

    return schedule


@dataclass
class Hostile:
    """The server in a thread: ``with Hostile(schedule) as server``, then send to ``server.url``.

    Attributes:
        faults: how often each fault was injected, ``calls`` how many requests came.
    """

    schedule: Schedule = never
    answer: Callable[[Body], str] = behave
    tls: ssl.SSLContext | None = None
    faults: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    port: int = 0

    def __post_init__(self) -> None:
        self._seen: Counter[Any] = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="hostile")

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Hostile:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _open(self) -> None:
        self._server = await asyncio.start_server(
            self._connected, "127.0.0.1", self.port, ssl=self.tls
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        method = await reader.readexactly(4)
        if method != b"POST":
            # A TLS handshake, for example.
            await Exchange({}, "", writer).send(http(400, b"no POST", Connection="close"))
            return False
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        body: Body = json.loads(await reader.readexactly(int(length)))
        identity = identity_of(body)
        name = self.schedule(body, self._seen[identity])
        self._seen[identity] += 1
        self.calls += 1
        exchange = Exchange(body, self.answer(body), writer)
        if not name:
            return await exchange.send(http(200, json.dumps(exchange.honest).encode()))
        self.faults[name] += 1
        return await FAULTS[name](exchange)
