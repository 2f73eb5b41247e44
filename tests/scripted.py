"""A model that answers by a function of the request, in process, and clients over a real journal.

For tests of the steps that ask models: which requests they make, and what they make of the answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from misalign_bench.journal.store import Journal
from misalign_bench.llm.budget import Budget
from misalign_bench.llm.client import Client
from misalign_bench.llm.model import Capabilities, Failure, Model, Reply, Request
from misalign_bench.prompts.loader import template
from misalign_bench.records import DIMENSIONS, Dimension

Answer = Callable[[Request], "str | Reply | Failure"]


class Scripted:
    """Answers as told, keeps every request, and may take its time."""

    simulated = True
    endpoint = ""
    concurrency = 64

    def __init__(
        self,
        answer: Answer,
        name: str = "simulated/scripted",
        *,
        weights: str = "",
        delay: Callable[[], float] = lambda: 0.0,
        capabilities: Capabilities | None = None,
    ) -> None:
        self.answer = answer
        self.name = self.identity = name
        self.weights = weights or name
        self.capabilities = capabilities or Capabilities()
        self.requests: list[Request] = []
        self.in_flight = self.most_in_flight = 0
        self.closed = False
        self._delay = delay

    async def send(self, request: Request, seed: int) -> Reply | Failure:
        self.requests.append(request)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(self._delay())
        self.in_flight -= 1
        said = self.answer(request)
        return Reply(said, cost=0.0) if isinstance(said, str) else said

    async def close(self) -> None:
        self.closed = True


def asked_about(request: Request) -> Dimension:
    """The dimension that a log-probability question is about, whatever its wording."""
    name = request.template.partition("@")[0]
    last = request.messages[-1].content.rpartition("\n")[2]
    for dimension in DIMENSIONS:
        shown = template(name).render(prompt="", response="", dimension=dimension)
        if shown[-1].content.rpartition("\n")[2] == last:
            return dimension
    raise ValueError(f"no question of {name}: {last}")


@asynccontextmanager
async def asking(path: Path, *models: Model, **options: Any) -> AsyncIterator[tuple[Client, ...]]:
    """A client for each model over one journal; failures are not tried again."""
    journal = Journal.open(path)
    values = {"seed": 7, "budget": Budget(), "retries": 0, **options}
    clients = tuple(Client(model, journal, **values) for model in models)
    try:
        yield clients
    finally:
        for client in clients:
            await client.close()
        await journal.close()
