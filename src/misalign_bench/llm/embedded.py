"""``embedded/NAME``: a small GGUF run in this process by llama.cpp (``xllamacpp``), no server.

Requests go through the same payload and decoding as ``openai/``, so a model gives the same text
either way, also to a plain text without a chat template. NAME is one of ``misalign-bench weights
list`` or a path to a ``.gguf`` file; ``?deterministic=true`` (one slot, fixed batch, no prefix
reuse) exists for tests and ``?context=N`` sets the tokens of one slot. Two models never compute at
the same time: on few cores they would only slow each other down, so a gate lets one in and changes
when it is done or has had its turn.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from misalign_bench.config_model import ModelSettings
from misalign_bench.errors import UserError
from misalign_bench.llm.chat_protocol import FULL, refusal
from misalign_bench.llm.model import Capabilities, Failure, Reply, Request
from misalign_bench.llm.weights import cached, find
from misalign_bench.llm.weights_sources import sha256_of
from misalign_bench.llm.wires import ROUTES

SLOTS = 8
CONTEXT = 2048
LARGEST_CONTEXT = 131_072
PREFIX_MEBIBYTES = 256
TURN_SECONDS = 15.0
LINGER_SECONDS = 0.1
_TURN_MARK = re.compile(
    # Also what marks files, tools and notebooks: one control token each to a model that knows it.
    r"(?<=<)(?=[|｜][\w▁]+[|｜]>|/?(?:s|bos|eos|pad|unk|tool_call|tool_response|think)>"
    r"|(?:start|end)_of_turn>|repo_?name>|file_sep>|filename>|gh_stars>|empty_output>"
    r"|(?:issue|jupyter)_\w+>)|(?<=\[)(?=/?INST\])"
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to start the engine: which file, how many slots, how many tokens in each."""

    path: Path
    slots: int
    context: int
    deterministic: bool


class EmbeddedModel:
    """A GGUF in this process.

    Raises:
        UserError: unknown name or option, weights not cached, the extra not installed.
    """

    simulated = False
    endpoint = ""
    capabilities = Capabilities(shared_prefix=True, wires=("chat", "completion"))

    def __init__(self, settings: ModelSettings) -> None:
        self.name = settings.model
        name, options = _options(settings.model)
        path, digest = _weights(name)
        deterministic = options.get("deterministic", "false") == "true"
        slots = 1 if deterministic else settings.concurrency or SLOTS
        context = int(options.get("context", CONTEXT))
        self.recipe = Recipe(path, slots, context, deterministic)
        self.concurrency = slots
        self.weights = f"sha256:{digest}"
        self._engine = _engine(self.recipe)
        version, template = self._engine.version, self._engine.chat_template
        self.identity = json.dumps(
            {
                "adapter": settings.revision,
                "chat_template": template,
                "context": context,
                "deterministic": deterministic,
                "engine": version,
                "provider": "embedded",
                "weights": digest,
            },
            sort_keys=True,
        )

    async def send(self, request: Request, seed: int) -> Reply | Failure:
        """Run the request when it is this model's turn."""
        route = ROUTES[request.wire]
        body = route.payload(request, seed, self.name, FULL)
        for message in body.get("messages", ()):
            message["content"] = defused(message["content"])
        if "prompt" in body:
            body["prompt"] = defused(body["prompt"])
        if request.options:
            # One slot keeps the prefix that a judge's questions about one response share.
            body["id_slot"] = 0
        answer = await _GATE.run(self._engine, body)
        if "error" in answer:
            status = int(answer["error"].get("code", 500))
            return refusal(status, json.dumps(answer).encode())
        reply = route.decode(answer, request)
        return reply if isinstance(reply, Failure) else _free(reply)

    async def close(self) -> None:
        """Let the engine go when its last user does."""
        self._engine.release()


def defused(text: str) -> str:
    """The text with the marks of a chat turn taken apart.

    The engine reads them as the model's own wherever they stand, so that a response that is judged
    could end its turn and begin another.

    >>> defused("Fine.<|im_end|> 1 < 2, a <b>")
    'Fine.< |im_end|> 1 < 2, a <b>'
    """
    return _TURN_MARK.sub(" ", text)


def parameters(recipe: Recipe) -> Any:
    """llama.cpp's parameters for a recipe; a test server started with them answers the same."""
    engine = _import()
    settings = engine.CommonParams()
    settings.model.path = str(recipe.path)
    settings.n_parallel = recipe.slots
    settings.n_ctx = recipe.context * recipe.slots
    threads = max(1, min(8, os.cpu_count() or 1))
    settings.cpuparams.n_threads = threads
    settings.cpuparams_batch.n_threads = threads
    settings.cache_prompt = not recipe.deterministic
    # Prefixes that a slot gave up for another prompt; without a bound they may take gigabytes.
    settings.cache_ram_mib = 0 if recipe.deterministic else PREFIX_MEBIBYTES
    settings.n_gpu_layers = 0
    settings.warmup = False
    settings.verbosity = -1
    return settings


class _Engine:
    """One loaded model, shared by all roles that use the same weights in the same way."""

    def __init__(self, recipe: Recipe) -> None:
        engine = _import()
        self.version = f"xllamacpp {engine.__version__}"
        self.users = 0
        self.recipe = recipe
        settings = parameters(recipe)
        # The engine opens a port on loopback by itself; nobody is meant to talk to it.
        settings.api_keys = [os.urandom(24).hex()]
        try:
            self._server = engine.Server(settings)
        except RuntimeError as error:
            raise UserError(f"the engine cannot load it: {error}", where=str(recipe.path)) from None
        self.chat_template = "gguf"
        self._threads = ThreadPoolExecutor(recipe.slots, thread_name_prefix="engine")

    async def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        """One call, of a chat or of a plain text; an error comes back as a body with ``error``."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._chat, body)

    def _chat(self, body: dict[str, Any]) -> dict[str, Any]:
        said: list[Any] = []
        server = self._server
        ask = server.handle_completions if "prompt" in body else server.handle_chat_completions
        ask(json.dumps(body), said.append)
        answer = said[0] if said else {"error": {"code": 500, "message": "the engine said nothing"}}
        held: dict[str, Any] = (
            json.loads(answer) if isinstance(answer, (str, bytes, bytearray)) else answer
        )
        return held

    def release(self) -> None:
        """One user fewer; the last one frees the memory."""
        with _LOCK:
            self.users -= 1
            if self.users <= 0:
                _ENGINES.pop(self.recipe, None)
                self._threads.shutdown(wait=True)
                self._server = None


_ENGINES: dict[Recipe, _Engine] = {}
_LOCK = threading.Lock()


def _engine(recipe: Recipe) -> _Engine:
    with _LOCK:
        engine = _ENGINES.get(recipe)
        if engine is None:
            engine = _ENGINES[recipe] = _Engine(recipe)
        engine.users += 1
        return engine


@dataclass
class _Gate:
    """Lets calls of one engine at a time through; others wait until it is idle or had its turn.

    Idle means for a moment: a judge's next question comes as soon as the last answer is stored, and
    calls that wait meanwhile can later be computed several at a time.
    """

    active: _Engine | None = None
    running: int = 0
    since: float = 0.0
    idle_at: float = 0.0
    waiting: deque[tuple[_Engine, asyncio.Future[None]]] = field(default_factory=deque)

    async def run(self, engine: _Engine, body: dict[str, Any]) -> dict[str, Any]:
        """What the engine answers, once it is its turn.

        The engine cannot be stopped: where the caller gives up, the call holds its place behind the
        gate until the engine is done with it.
        """
        await self._enter(engine)
        call = asyncio.ensure_future(engine.chat(body))
        call.add_done_callback(self._left)
        return await asyncio.shield(call)

    async def _enter(self, engine: _Engine) -> None:
        """Wait for a place, first come first served within an engine."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append((engine, turn))
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self.waiting.remove((engine, turn))
            else:
                self.running -= 1
            self._admit()
            raise

    def _left(self, call: asyncio.Future[dict[str, Any]]) -> None:
        """Count a call that ended, and let in who may come."""
        if not call.cancelled():
            call.exception()  # retrieved here too, since the caller may be gone
        self.running -= 1
        self.idle_at = time.monotonic() + LINGER_SECONDS
        self._admit()

    def _admit(self) -> None:
        """Let in who may come; at the end of a turn the other engine comes first."""
        over = self._turn_is_over()
        order = sorted(self._alive(), key=lambda entry: (entry[0] is self.active) == over)
        for engine, turn in order:
            if self._may_enter(engine, over):
                self.waiting.remove((engine, turn))
                if self.active is not engine:
                    self.active, self.since, over = engine, time.monotonic(), False
                self.running += 1
                turn.set_result(None)
        if self.running == 0 and self._alive():
            wait = max(0.0, self.idle_at - time.monotonic()) + 0.001
            asyncio.get_running_loop().call_later(wait, self._admit)

    def _may_enter(self, engine: _Engine, over: bool) -> bool:
        if self.running == 0:
            return engine is self.active or over or time.monotonic() >= self.idle_at
        return self.active is engine and self.running < engine.recipe.slots and not over

    def _turn_is_over(self) -> bool:
        others = any(engine is not self.active for engine, _ in self._alive())
        return others and time.monotonic() - self.since > TURN_SECONDS

    def _alive(self) -> list[tuple[_Engine, asyncio.Future[None]]]:
        """Who waits, without those that were cancelled and have not noticed yet."""
        return [entry for entry in self.waiting if not entry[1].done()]


_GATE = _Gate()


def _options(model: str) -> tuple[str, dict[str, str]]:
    name, _, query = model.removeprefix("embedded/").partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    known = {"deterministic": ("true", "false"), "context": None}
    for key, value in options.items():
        if key not in known:
            raise UserError(
                f"unknown option {key!r}", where=model, mend=f"Known: {', '.join(known)}"
            )
        choices = known[key]
        if choices and value not in choices:
            raise UserError(f"{key} cannot be {value!r}", where=model, mend="true or false")
        if not choices and not (value.isdecimal() and 256 <= int(value[:9]) <= LARGEST_CONTEXT):
            mend = f"A number from 256 to {LARGEST_CONTEXT}"
            raise UserError(f"{key} cannot be {value!r}", where=model, mend=mend)
    return name, options


def _weights(name: str) -> tuple[Path, str]:
    """The file and its hash for a shipped name or a path to a GGUF."""
    if name.endswith(".gguf"):
        path = Path(name)
        if not path.is_file():
            raise UserError("no such file", where=f"embedded/{name}")
        return path, sha256_of(path)
    known = find(name)
    found = cached(name)
    if found is None:
        raise UserError(
            "its weights are not on this machine",
            where=f"embedded/{name}",
            mend=f"Run: misalign-bench weights get {name}",
        )
    if found.suffix != ".gguf":
        raise UserError(
            "it embeds texts and cannot write or judge",
            where=f"embedded/{name}",
            mend="Use it as classifier, with classify.method: embedding.",
        )
    return found, known.sha256


def _free(reply: Reply) -> Reply:
    from dataclasses import replace

    # The engine calls its model by a path; which weights they are is in the identity.
    return replace(reply, cost=0.0, served="")


def _import() -> Any:
    """The engine, told before it starts that idle threads sleep.

    Threads that spin while they wait are a little faster alone, and many times slower as soon as
    two engines, or an engine and anything else, share the cores. Whoever is alone on a machine may
    set ``OMP_WAIT_POLICY=active``.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        import xllamacpp
    except ImportError:
        raise UserError(
            "the embedded engine is not installed",
            mend="Run: pip install 'misalign-bench[embedded]'",
        ) from None
    return xllamacpp
