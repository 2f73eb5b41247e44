"""A model server in virtual time that takes so many calls at once and refuses the others.

The number may change during the run, and the server may be out for a while. ``ask_all`` drives the
real client over it with rows enough to keep it busy, and counts what came when.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from misalign_bench.journal.store import Attempt, Entry, Journal
from misalign_bench.llm.budget import Budget
from misalign_bench.llm.client import Answered, Client
from misalign_bench.llm.model import Capabilities, Failure, Reply, Request, Sample, Sampling
from misalign_bench.records import Message

SECONDS = 1.0
"""What an answer takes on average."""

Capacity = Callable[[float], int]
"""How many calls the server takes at a time; 0 while it is out."""


class Memory(Journal):
    """A journal that keeps nothing on a disk, so that no thread takes real time."""

    def __init__(self) -> None:
        self.held: dict[str, Entry] = {}

    def get(self, key: str) -> Entry | None:
        """The answer under a key."""
        return self.held.get(key)

    async def put(self, entry: Entry) -> Entry:
        """Keep it."""
        return self.held.setdefault(entry.key, entry)

    async def attempt(self, attempt: Attempt) -> None:
        """Forget it."""


@dataclass
class Crowded:
    """The server as a model: answers within ``SECONDS`` on average, or refuses at once.

    Attributes:
        refusal: the failure of a call that finds no room or no server.
        answered: answers by whole second, ``asked`` and ``refused`` likewise.
    """

    capacity: Capacity
    concurrency: int = 8
    concurrency_cap: int = 256
    refusal: Failure = field(default_factory=lambda: Failure("rate_limited", "HTTP 429"))
    name: str = "simulated/crowded"
    identity: str = "crowded"
    weights: str = "crowded"
    endpoint: str = ""
    simulated: bool = True
    capabilities: Capabilities = field(default_factory=Capabilities)
    answered: Counter[int] = field(default_factory=Counter)
    asked: Counter[int] = field(default_factory=Counter)
    refused: Counter[int] = field(default_factory=Counter)
    in_flight: int = 0

    def __post_init__(self) -> None:
        self._chance = random.Random(4)

    async def send(self, request: Request, seed: int) -> Reply | Failure:
        """Answer or refuse."""
        clock = asyncio.get_running_loop()
        began = int(clock.time())
        self.asked[began] += 1
        if self.in_flight >= self.capacity(clock.time()):
            self.refused[began] += 1
            await asyncio.sleep(0.005)
            return self.refusal
        self.in_flight += 1
        await asyncio.sleep(SECONDS * self._chance.uniform(0.5, 1.5))
        self.in_flight -= 1
        self.answered[int(clock.time())] += 1
        return Reply("an answer", cost=0.0)

    async def close(self) -> None:
        """Nothing is held."""

    def throughput(self, start: int, end: int) -> float:
        """Answers a second between two times."""
        return sum(self.answered[second] for second in range(start, end)) / (end - start)


async def ask_all(server: Crowded, seconds: float, *, rows: int = 200) -> int:
    """Ask without end from so many rows for so long; how many rows were left pending."""
    client = Client(server, Memory(), seed=1, budget=Budget())
    clock, lost = asyncio.get_running_loop(), 0

    async def row(number: int) -> None:
        nonlocal lost
        asked = 0
        while clock.time() < seconds:
            asked += 1
            message = Message("user", f"{number} {asked}")
            request = Request((message,), Sampling(), Sample("target"))
            lost += not isinstance(await client.ask(request), Answered)

    tasks = [asyncio.ensure_future(row(number)) for number in range(rows)]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.close()
    return lost
