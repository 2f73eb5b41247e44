"""A call as people and the journal see it: events, running totals, entries and back.

The journal keeps a request in full (messages, sampling, schema, options, seed), so that every
number can be traced to what was asked and said.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from misalign_bench.journal.store import Entry
from misalign_bench.llm.model import Failure, Model, Reply, Request, Role, Status, Usage

ACCEPTED_FAILURE = "transport"


@dataclass(frozen=True, slots=True)
class Keyed:
    """A request with its journal key and the seed that it carries."""

    request: Request
    key: str
    seed: int

    @property
    def role(self) -> Role:
        """The role on whose behalf it is asked."""
        return self.request.sample.role


@dataclass(frozen=True, slots=True)
class Answered:
    """A reply as the journal holds it; ``replayed`` if this ask cost no call."""

    reply: Reply
    key: str
    replayed: bool


@dataclass(frozen=True, slots=True)
class Call:
    """What a progress display hears of each finished ask; ``error`` names a failure's kind."""

    role: Role
    model: str
    key: str
    replayed: bool = False
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None
    latency: float = 0.0
    error: str = ""


class Ledger:
    """Running totals of one model for each role, and the listener that hears of each ask."""

    def __init__(self, model: str, on_call: Callable[[Call], None] | None) -> None:
        self._model = model
        self._on_call = on_call
        self._totals: dict[Role, Usage] = {}

    def totals(self) -> dict[tuple[Role, str], Usage]:
        """Totals for each (role, model)."""
        return {(role, self._model): usage for role, usage in self._totals.items()}

    def answered(self, entry: Entry, role: Role, seconds: float) -> None:
        """Book a call that was made and answered."""
        usage = self._usage(role)
        usage.calls += 1
        usage.attempts += 1
        usage.input_tokens += entry.input_tokens
        usage.output_tokens += entry.output_tokens
        usage.cached_tokens += entry.cached_tokens
        usage.cost += entry.cost or 0.0
        usage.unpriced += entry.cost is None
        usage.seconds += seconds
        self._tell(entry, role, replayed=False)

    def replayed(self, entry: Entry, role: Role) -> None:
        """Book an answer that cost nothing."""
        self._usage(role).replayed += 1
        self._tell(entry, role, replayed=True)

    def shared(self, role: Role) -> None:
        """Book an ask that another ask's call has answered."""
        self._usage(role).replayed += 1

    def attempted(self, kind: str, role: Role, seconds: float) -> None:
        """Book an attempt that gave no answer."""
        usage = self._usage(role)
        usage.attempts += 1
        usage.seconds += seconds
        usage.errors[kind] = usage.errors.get(kind, 0) + 1

    def failed(self, key: str, role: Role, kind: str) -> None:
        """Tell of an ask that ended without an answer."""
        if self._on_call is not None:
            self._on_call(Call(role, self._model, key, error=kind))

    def _usage(self, role: Role) -> Usage:
        usage = self._totals.get(role)
        if usage is None:
            usage = self._totals[role] = Usage()
        return usage

    def _tell(self, entry: Entry, role: Role, *, replayed: bool) -> None:
        if self._on_call is not None:
            spent = (entry.input_tokens, entry.output_tokens, entry.cost, entry.latency)
            self._on_call(Call(role, self._model, entry.key, replayed, *spent))


def keyed(request: Request, identity: str, run_seed: int) -> Keyed:
    """Derive seed and key of a request (contract, section 1)."""
    digest = request.digest(identity)
    drawn = hashlib.sha256(f"{run_seed}:{digest}".encode()).digest()
    seed = int.from_bytes(drawn[:4], "big") >> 1
    return Keyed(request, hashlib.sha256(f"{digest}:{seed}".encode()).hexdigest(), seed)


def failure_key(key: str) -> str:
    """Where an accepted failure lies: beside the answer's key, which an answer may still take."""
    return hashlib.sha256(f"{key}:{ACCEPTED_FAILURE}".encode()).hexdigest()


def answer_entry(model: Model, asked: Keyed, reply: Reply, latency: float) -> Entry:
    """An answer as the journal keeps it."""
    response = {"text": reply.text, "options": reply.options, "served": reply.served}
    entry = _entry(model, asked, response, reply.status)
    return replace(
        entry,
        input_tokens=reply.input_tokens,
        output_tokens=reply.output_tokens,
        cached_tokens=reply.cached_tokens,
        cost=reply.cost,
        latency=latency,
    )


def failure_entry(model: Model, asked: Keyed, failure: Failure) -> Entry:
    """A failure that the user accepted for good, as the journal keeps it."""
    response = {"kind": failure.kind, "detail": failure.detail}
    return replace(
        _entry(model, asked, response, ACCEPTED_FAILURE), key=failure_key(asked.key), cost=0.0
    )


def reply_of(entry: Entry) -> Reply:
    """The reply that an entry holds."""
    return Reply(
        text=entry.response["text"],
        status=cast(Status, entry.status),
        options=entry.response["options"],
        input_tokens=entry.input_tokens,
        output_tokens=entry.output_tokens,
        cached_tokens=entry.cached_tokens,
        latency=entry.latency,
        cost=entry.cost,
        served=entry.response["served"],
    )


def failure_of(entry: Entry) -> Failure:
    """The terminal failure that an entry holds."""
    kind, detail = str(entry.response["kind"]), str(entry.response["detail"])
    return Failure(kind, detail, passing=False, terminal=True)


def _entry(model: Model, asked: Keyed, response: Mapping[str, Any], status: str) -> Entry:
    request, sample, sampling = asked.request, asked.request.sample, asked.request.sampling
    body = {
        "identity": model.identity,
        "messages": [[message.role, message.content] for message in request.messages],
        "sampling": [sampling.temperature, sampling.top_p, sampling.max_tokens],
        "schema": request.schema,
        "options": request.options,
        "seed": asked.seed,
    }
    if request.wire != "chat":
        body["wire"] = request.wire
    return Entry(
        key=asked.key,
        role=sample.role,
        model=model.name,
        template=request.template,
        request=body,
        response=response,
        status=status,
        input_tokens=0,
        output_tokens=0,
        cached_tokens=0,
        cost=None,
        latency=0.0,
        created=time.time(),
        round=sample.round,
        index=sample.index,
        epoch=sample.epoch,
    )
