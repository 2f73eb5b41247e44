"""What a model is to the rest of the house: a name, an identity, and one async ``send``.

A provider sends one request once. Keys, replay, retries, budget and concurrency live in
``llm.client``, the same for every provider, so that a provider is a screenful.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from misalign_bench.records import Message

Role = Literal["classifier", "expander", "generator", "evaluator", "target", "judge"]
Wire = Literal["chat", "completion", "classify", "pooling"]
"""What a request asks of a server: a chat turn, the continuation of a plain text, or a reward by
one of two interfaces (``llm.reward_protocol``)."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters; the paper's are the defaults (temperature 0.7, top-p 0.9, 512)."""

    temperature: float = 0.7
    top_p: float = 0.9
    max_tokens: int = 512


@dataclass(frozen=True, slots=True)
class Sample:
    """Which draw of a prompt this is: two samples of one prompt are two keys."""

    role: Role
    round: int = 0
    index: int = 0
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """One model call, without host, time or concurrency.

    Attributes:
        schema: JSON schema the answer must follow; None for free text.
        options: if given, the call asks for the log-probability of each option as the first token
            of the answer (for example ``("yes", "no")``) and ignores the text.
        template: ``name@hash`` of the prompt template, recorded with the call, not part of the key
            (its text already is).
        wire: what is asked of the server; a ``completion`` has one message, the plain text.
    """

    messages: tuple[Message, ...]
    sampling: Sampling
    sample: Sample
    schema: Mapping[str, Any] | None = None
    options: tuple[str, ...] = ()
    template: str = ""
    wire: Wire = "chat"

    def digest(self, identity: str) -> str:
        """The key without its seed, for a model of this identity (contract, section 1)."""
        body = {
            "model": identity,
            "messages": [[message.role, message.content] for message in self.messages],
            "sampling": [self.sampling.temperature, self.sampling.top_p, self.sampling.max_tokens],
            "schema": self.schema,
            "options": list(self.options),
            "sample": [self.sample.role, self.sample.round, self.sample.index, self.sample.epoch],
        }
        if self.wire != "chat":
            body["wire"] = self.wire
        text = json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


Status = Literal["ok", "length", "refused", "filtered"]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered. ``refused`` and ``filtered`` are the provider's final word.

    ``options`` maps each asked option to its natural-log probability; an option outside what the
    server listed has the probability of the least listed token as an upper bound. ``cost`` is in
    US dollars, None when the price is unknown. ``served`` is what the server says it serves
    (fingerprint), never a host.
    """

    text: str
    status: Status = "ok"
    options: Mapping[str, float] | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    latency: float = 0.0
    cost: float | None = None
    served: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that gave no answer.

    ``passing`` failures (timeouts, 429, 5xx, resets) are retried; others stop the run or the row.
    ``fatal`` ones stop the whole run at once (wrong key, unknown model). ``terminal`` ones are
    accepted for good (``--accept-failures``, ``--no-new-draws``): the row is dropped or unscored
    instead of pending. ``retry_after`` in seconds.
    """

    kind: str
    detail: str
    passing: bool = True
    fatal: bool = False
    terminal: bool = False
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider offers beyond chat.

    ``shared_prefix``: questions that share a long prefix are cheapest one after another.
    ``wires``: which requests it can send.
    """

    schema: bool = True
    options: bool = True
    deterministic_options: bool = True
    shared_prefix: bool = False
    wires: tuple[Wire, ...] = ("chat",)


class Model(Protocol):
    """A provider's model. ``identity`` goes into the key, ``name`` is what people wrote."""

    @property
    def name(self) -> str:
        """``provider/model`` as configured, for files and people."""

    @property
    def identity(self) -> str:
        """Everything about the model that determines its answers, as one canonical string."""

    @property
    def weights(self) -> str:
        """What makes two models the same one: for role separation and ``own_items``."""

    @property
    def simulated(self) -> bool:
        """True for behaviour models; carried to the page."""

    @property
    def endpoint(self) -> str:
        """Base URL the name stands for, or an empty string; watched, never part of a key."""

    @property
    def capabilities(self) -> Capabilities:
        """What it offers beyond chat."""

    @property
    def concurrency(self) -> int:
        """Calls worth having in flight at the start; adapted by the client."""

    async def send(self, request: Request, seed: int) -> Reply | Failure:
        """Send the request once; never raises for what the outside world may do."""

    async def close(self) -> None:
        """Release connections or weights; called once."""


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens."""

    input: float
    output: float
    cached_input: float | None = None


@dataclass(slots=True)
class Usage:
    """Running totals of one role and model."""

    calls: int = 0
    replayed: int = 0
    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost: float = 0.0
    unpriced: int = 0
    seconds: float = 0.0
    errors: dict[str, int] = field(default_factory=dict)

    def plus(self, other: Usage) -> Usage:
        """The totals of both."""
        summed = {
            name: getattr(self, name) + getattr(other, name)
            for name in self.__dataclass_fields__
            if name != "errors"
        }
        kinds = {*self.errors, *other.errors}
        errors = {kind: self.errors.get(kind, 0) + other.errors.get(kind, 0) for kind in kinds}
        return Usage(**summed, errors=errors)
