"""The limiter in real time: a server over HTTP whose limit moves, and one that is out for a while.

A server in this process takes so many calls at once, answers each in about 0.2 s and refuses the
others with a 429. In each phase the adaptive client is compared with clients of fixed concurrency.
Run: ``python benchmarks/torture/concurrency.py --seconds 20``; prints markdown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from misalign_bench.config_model import ModelSettings
from misalign_bench.journal.store import Journal
from misalign_bench.llm.budget import Budget
from misalign_bench.llm.client import Client
from misalign_bench.llm.model import Request, Sample, Sampling
from misalign_bench.llm.openai import OpenAIModel
from misalign_bench.records import Message

CAPACITIES = (24, 8, 36)
SECONDS = 0.2
ROWS = 80


@dataclass
class Server:
    """Takes ``capacity`` calls at once; zero is an outage."""

    capacity: int
    in_flight: int = 0
    answered: Counter[int] = field(default_factory=Counter)
    refused: Counter[int] = field(default_factory=Counter)
    times: list[float] = field(default_factory=list)

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length))
                writer.write(await self._answer())
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()

    async def _answer(self) -> bytes:
        self.times.append(time.monotonic())
        if self.in_flight >= self.capacity:
            self.refused[int(time.monotonic())] += 1
            return b"HTTP/1.1 429 Busy\r\nContent-Length: 0\r\n\r\n"
        self.in_flight += 1
        await asyncio.sleep(SECONDS * random.uniform(0.5, 1.5))
        self.in_flight -= 1
        self.answered[int(time.monotonic())] += 1
        choice = {"message": {"content": "an answer"}, "finish_reason": "stop"}
        body = json.dumps({"model": "m", "choices": [choice]}).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    def rate(self, counted: Counter[int], start: float, end: float) -> float:
        """Counted a second between two times, whole seconds only."""
        held = range(int(start) + 1, int(end))
        return sum(counted[second] for second in held) / max(1, len(held))


async def keep_asking(server: Server, folder: Path, concurrency: int | None) -> None:
    """Ask from many rows without end; a fixed concurrency is never adapted."""
    model = OpenAIModel(ModelSettings(model="openai/m", base_url=server.url))
    journal = Journal.open(folder / "journal.sqlite")
    client = Client(model, journal, seed=1, budget=Budget(), retries=20)
    if concurrency is not None:
        client.limiter.limit = client.limiter.cap = concurrency
        client.limiter._cut = lambda started: None  # type: ignore[method-assign]

    async def row(number: int) -> None:
        for asked in range(10**9):
            message = Message("user", f"{number} {asked}")
            await client.ask(Request((message,), Sampling(), Sample("target")))

    rows = [asyncio.ensure_future(row(number)) for number in range(ROWS)]
    try:
        await asyncio.gather(*rows)
    finally:
        for task in rows:
            task.cancel()
        await asyncio.gather(*rows, return_exceptions=True)
        await client.close()
        await journal.close()


async def measured(capacity: int, concurrency: int, seconds: float) -> float:
    """Answers a second at a fixed concurrency."""
    with tempfile.TemporaryDirectory() as name:
        async with Server(capacity) as server:
            asking = asyncio.ensure_future(keep_asking(server, Path(name), concurrency))
            await asyncio.sleep(2)
            start = time.monotonic()
            await asyncio.sleep(seconds)
            rate = server.rate(server.answered, start, time.monotonic())
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
    return rate


async def followed(seconds: float) -> tuple[list[tuple[float, float]], list[int]]:
    """Adaptive: (answers, refusals) a second in each phase, and calls by second after an outage."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        async with Server(CAPACITIES[0]) as server:
            asking = asyncio.ensure_future(keep_asking(server, Path(name), None))
            for capacity in CAPACITIES:
                server.capacity = capacity
                await asyncio.sleep(seconds)
                start = time.monotonic()
                await asyncio.sleep(seconds)
                end = time.monotonic()
                rates = [server.rate(one, start, end) for one in (server.answered, server.refused)]
                found.append((rates[0], rates[1]))
            server.capacity = 0
            await asyncio.sleep(8)
            server.capacity, back = CAPACITIES[-1], time.monotonic()
            await asyncio.sleep(10)
            after = [sum(back + n <= at < back + n + 1 for at in server.times) for n in range(8)]
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
    return found, after


async def run(seconds: float) -> bool:
    """Measure and print; whether every limit was found within a tenth of the best setting."""
    found, after = await followed(seconds)
    print("| the server takes | best fixed setting | answers/s | adaptive | refused/s | of best |")
    print("|---|---|---|---|---|---|")
    shares = []
    for capacity, (adaptive, refused) in zip(CAPACITIES, found, strict=True):
        tried = {capacity + step: 0.0 for step in (-2, 0, 2)}
        for concurrency in tried:
            tried[concurrency] = await measured(capacity, concurrency, seconds / 2)
        best = max(tried, key=lambda one: tried[one])
        share = adaptive / tried[best]
        shares.append(share)
        print(
            f"| {capacity} | {best} | {tried[best]:.1f} | {adaptive:.1f} | {refused:.2f} |"
            f" {share:.0%} |"
        )
    usual = CAPACITIES[-1] / SECONDS
    print(f"\nCalls in each second after an outage of 8 s (usual: {usual:.0f} a second): {after}\n")
    print(
        f"{min(shares):.0%} to {max(shares):.0%} of the best fixed setting's answers as the limit"
        f" moves; {after[0]} calls in the first second after the outage"
    )
    return min(shares) >= 0.9


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="to settle, and to measure")
    return int(not asyncio.run(run(parser.parse_args().seconds)))


if __name__ == "__main__":
    sys.exit(main())
