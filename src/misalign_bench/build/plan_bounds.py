"""How much a request may take, without sending it: tokens, dollars and seconds as ranges.

No tokenizer is at hand for a model behind a server, so tokens follow from characters by bounds that
hold for all tokenizers in use:

- at least one token for each word and, since words may be short, for 8 characters, whichever is
  less;
- at most one for 1.5 letters or spaces (English has 4 to 5 a token), and for anything else, digits
  and marks included, one for each byte of UTF-8
  (with the tokenizers of SmolLM2 and Qwen 2.5 none of the 20,148 published prompts is below the
  bounds, three are above, by 9% at most; in sum they are half and three times the count);
- the chat template adds at most 8 tokens a message and 64 a call; a schema counts like text,
  because some servers put it into the prompt;
- what a model writes in n tokens is at most 4 n tokens to another that reads it, quoting included,
  and 1.25 n to itself.

Seconds are known for the embedded models only, from the speeds in the design, measured on 2 cores.
They take a token for 4 characters, and a third of what judges send, because the questions about a
response share its prefix. At most 6 times that, at least a 16th of it for a twentieth of the input.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import cast, get_args

from misalign_bench.config_model import ModelSettings
from misalign_bench.llm.client import Answered, Client
from misalign_bench.llm.model import Capabilities, Price, Reply, Request, Wire

CHARACTERS_AT_MOST = 8
LETTERS_AT_LEAST = 1.5
PER_MESSAGE, PER_CALL = 8, 64
REREAD, REREAD_BY_ITSELF = 4, 1.25
OPTION_TOKENS = 4
LIKELY_CHARACTERS, SHARED_QUESTIONS = 4, 3
SLOWER, FASTER, CACHED = 6, 16, 20
SPEEDS = {
    "smollm2-135m": (316.0, 115.0),
    "qwen2.5-coder-0.5b": (150.0, 39.0),
    "qwen2.5-coder-1.5b": (68.0, 26.0),
}
"""Tokens a second, read and written, in one stream."""

# A simulated model does not heed max_tokens; it writes a few sentences, or fills in a schema.
_SIMULATED_TEXT, _SIMULATED_SCHEMA = 512, 8192
_LETTERS_AND_SPACE = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ "


@dataclass(frozen=True, slots=True)
class Range:
    """From ``low`` to ``high``, both included.

    >>> 3 in Range(1, 2) + Range(1, 2), 5 in Range(2, 4)
    (True, False)
    """

    low: float = 0
    high: float = 0

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.high + other.high)

    def __contains__(self, value: float) -> bool:
        # Sums of dollars come out differently in another order.
        slack = 1e-9 * max(1.0, abs(value))
        return self.low - slack <= value <= self.high + slack

    def times(self, factor: float) -> Range:
        """Both ends multiplied."""
        return Range(self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True)
class Load:
    """Calls and their tokens.

    ``likely_read`` is what an engine is likely to read for the most calls, for the time it takes.
    """

    calls: Range = Range()
    input_tokens: Range = Range()
    output_tokens: Range = Range()
    likely_read: float = 0

    def __add__(self, other: Load) -> Load:
        return Load(
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.likely_read + other.likely_read,
        )

    def times(self, count: float) -> Load:
        """The same so many times."""
        return Load(
            self.calls.times(count),
            self.input_tokens.times(count),
            self.output_tokens.times(count),
            self.likely_read * count,
        )

    def reading(self, written: float, factor: float = REREAD) -> Load:
        """The same with a text more to read, of up to so many tokens to whoever wrote it."""
        more = self.input_tokens + Range(0, math.ceil(written * factor))
        return Load(self.calls, more, self.output_tokens, self.likely_read + written)

    def or_less(self, *others: Load) -> Load:
        """From the least of the others (nothing, if there are none) to this one's high end."""
        lows = others or (Load(),)

        def span(name: str) -> Range:
            return Range(min(getattr(one, name).low for one in lows), getattr(self, name).high)

        figures = span("calls"), span("input_tokens"), span("output_tokens")
        return Load(*figures, self.likely_read)


def total(loads: Iterable[Load]) -> Load:
    """The sum of loads."""
    return reduce(Load.__add__, loads, Load())


def weigh(request: Request, model: ModelSettings) -> Load:
    """The load of one call."""
    read = reduce(Range.__add__, (tokens(message.content) for message in request.messages), Range())
    extra = PER_CALL + PER_MESSAGE * len(request.messages)
    if request.schema is not None:
        extra += math.ceil(tokens(json.dumps(request.schema)).high)
    read += Range(0, extra)
    most = OPTION_TOKENS if request.options else request.sampling.max_tokens
    if _is_simulated(model):
        floor = _SIMULATED_TEXT if request.schema is None else _SIMULATED_SCHEMA
        most = math.ceil(max(most, floor) + read.high)
    characters = sum(len(message.content) for message in request.messages)
    likely = characters / LIKELY_CHARACTERS / (SHARED_QUESTIONS if request.options else 1)
    return Load(Range(1, 1), read, Range(0, most), likely)


def tokens(text: str) -> Range:
    """How many tokens a text is to any model.

    >>> tokens("Seven plain words of English are here.")
    Range(low=4, high=26)
    >>> tokens("2024!").high
    5
    """
    body = text.encode("utf-8", "surrogatepass")
    others = len(body.translate(None, _LETTERS_AND_SPACE))
    low = min(len(text.split()), len(text) // CHARACTERS_AT_MOST)
    return Range(low, others + math.ceil((len(body) - others) / LETTERS_AT_LEAST))


def written(model: ModelSettings, max_tokens: int) -> int:
    """How many tokens a text of this model has at most, to itself."""
    return max(max_tokens, _SIMULATED_TEXT) if _is_simulated(model) else max_tokens


def dollars(load: Load, price: Price | None) -> Range | None:
    """What a load costs; None if the price is unknown. Cached input may cost less."""
    if price is None:
        return None
    cached = price.input if price.cached_input is None else min(price.input, price.cached_input)
    read, wrote = load.input_tokens, load.output_tokens
    low = read.low * cached + wrote.low * price.output
    return Range(low / 1e6, (read.high * price.input + wrote.high * price.output) / 1e6)


def engine_seconds(load: Load, model: ModelSettings) -> Range | None:
    """How long the engine computes, one call after the other; None if its speed is unknown."""
    provider, _, name = model.model.partition("/")
    speed = SPEEDS.get(name.partition("?")[0]) if provider == "embedded" else None
    if speed is None:
        return None
    read, write = speed
    low = load.input_tokens.low / read / CACHED + load.output_tokens.low / write
    high = load.likely_read / read + load.output_tokens.high / write
    return Range(low / FASTER, high * SLOWER)


class Rehearsal:
    """Stands in for a client: it keeps the requests and asks nobody.

    What it answers has the right form for whoever asks several questions in turn, and no worth: no
    labels, an even chance, no prompts, no verdict.
    """

    def __init__(self, model: ModelSettings) -> None:
        self.model = _StandIn(model.model)
        self._requests: list[Request] = []

    @property
    def client(self) -> Client:
        """Itself, for code that expects a client."""
        return cast(Client, self)

    async def ask(self, request: Request) -> Answered:
        """Keep the request."""
        self._requests.append(request)
        reply = Reply('{"labels": []}', options=dict.fromkeys(request.options, math.log(0.5)))
        return Answered(reply, "", replayed=False)

    def take(self) -> list[Request]:
        """The requests since the last time, in their order."""
        taken, self._requests = self._requests, []
        return taken


@dataclass(frozen=True, slots=True)
class _StandIn:
    """What is asked of a model before anything is sent to it."""

    name: str
    simulated: bool = False

    @property
    def capabilities(self) -> Capabilities:
        """All there are: what a provider lacks shows when it is bound."""
        return Capabilities(wires=get_args(Wire))

    @property
    def identity(self) -> str:
        """The name; a plan never makes a key of it."""
        return self.name

    @property
    def weights(self) -> str:
        """The name."""
        return self.name


def _is_simulated(model: ModelSettings) -> bool:
    return model.model.startswith("simulated/")
