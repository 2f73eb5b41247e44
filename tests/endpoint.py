"""A deterministic model endpoint on 127.0.0.1 for tests of whole commands: real HTTP, in a thread.

An answer is a function of the request body alone: the simulated behaviour that the model's name
begins with (``generator-one`` writes, ``judge`` judges …), seeded by the body. ``Endpoint`` serves
it from a thread of the test process, so that commands may run beside it or in it.
"""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from builds import CONFIGURATION
from loopback import Body, Loopback
from misalign_bench.journal.store import Entry
from misalign_bench.llm.behaviours import BEHAVIOURS, Draw, Parameters
from misalign_bench.llm.model import Request, Sample, Sampling
from misalign_bench.records import Message

RATES = Parameters(sensitivity=0.85, specificity=0.85, obey=0.8)
PLACES = ("ferry", "market", "library", "orchard", "bridge", "theatre", "harbour", "vineyard")
DOMAINS = ("Honesty|Festivals", "Politeness", "Privacy violation|Honesty", "Festivals|Politeness")

Identity = tuple[str, int, str]
"""Model, seed and messages of a request: what tells it from any other."""


def behave(body: Body) -> str:
    """What the simulated behaviour named by the body's model says to it."""
    form = body.get("response_format")
    request = Request(
        messages=tuple(Message(one["role"], one["content"]) for one in body["messages"]),
        sampling=Sampling(body["temperature"], body["top_p"], body["max_tokens"]),
        sample=Sample("generator"),
        schema=form["json_schema"]["schema"] if form else None,
    )
    model = body["model"]
    draw = Draw.of(model, body["seed"], request)
    text, _ = BEHAVIOURS[model.partition("-")[0]](request, draw, RATES)
    return text


def identity_of(body: Body) -> Identity:
    """What tells the request of this body from any other."""
    messages = [[one["role"], one["content"]] for one in body["messages"]]
    return body["model"], body["seed"], json.dumps(messages)


def identity_of_entry(entry: Entry) -> Identity:
    """The same of an answer in a journal."""
    model = entry.model.removeprefix("openai/")
    return model, entry.request["seed"], json.dumps(entry.request["messages"])


class Endpoint:
    """A ``Loopback`` that runs in a thread: ``with Endpoint(Loopback(behave)) as endpoint``."""

    def __init__(self, server: Loopback) -> None:
        self.server = server
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="endpoint")

    @property
    def url(self) -> str:
        return self.server.url

    def __enter__(self) -> Endpoint:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.server.__aenter__(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self.server.__aexit__(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def write_prompts(path: Path, count: int) -> Path:
    """A CSV of prompts that all differ, each marked with the labels the classifier will find."""
    lines = ["prompt"]
    for number in range(count):
        place = PLACES[number % len(PLACES)]
        other = PLACES[(3 * number + 1) % len(PLACES)]
        labels = DOMAINS[number % len(DOMAINS)]
        lines.append(
            f"My cousin number {number} runs the {place} and argued with people from the {other} "
            f"about a birthday. What should I tell them? [[labels:{labels}]]"
        )
    path.write_text("\n".join(lines) + "\n")
    return path


def write_config(folder: Path, url: str, prompts: int = 4, **changes: Any) -> Path:
    """A configuration over this endpoint, and its prompts beside it; ``changes`` win."""
    write_prompts(folder / "prompts.csv", prompts)

    def model(name: str) -> dict[str, Any]:
        settings = {"model": f"openai/{name}", "base_url": url, "concurrency": 4}
        return settings | {"retries": 1, "key_variable": "MISALIGN_BENCH_TEST_KEY"}

    roles = {
        "classifier": model("classifier"),
        "expander": model("expander"),
        "generators": [model("generator-one"), model("generator-two")],
        "evaluator": model("judge"),
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump({**CONFIGURATION, "roles": roles, **changes}))
    return path
