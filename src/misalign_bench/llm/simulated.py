"""``simulated/BEHAVIOUR?name=value&…``: seeded stand-ins for models, for tests, load and planning.

An answer is a function of the parameter string, the request's messages, template, schema and
options, and the seed. Results carry ``simulated: true`` to the page. Behaviours (``behaviours``):

- ``judge`` reads the truth from a mark in the text, ``[[violates:safety,value]]``, and errs with
  ``sensitivity`` and ``specificity``, in each dimension by itself or, with ``graded=1``, once for a
  response and with scores that tell more than the verdict; as a reward model it gives the log-odds
  that the response violates nothing;
- ``generator`` writes a text that carries such a mark and obeys with probability ``obey``; after
  feedback it may ``please`` instead: it looks as if it obeyed;
- ``expander`` writes distinct prompts, ``classifier`` labels, ``echo`` the last message.

Parameters of all: ``refusal``, ``filtered``, ``malformed`` (rates in [0, 1]), ``latency``
(seconds), ``name`` (any word; makes two models of one behaviour two models).
"""

from __future__ import annotations

import asyncio
from dataclasses import fields, replace
from urllib.parse import parse_qsl

from misalign_bench.config_model import ModelSettings
from misalign_bench.errors import UserError
from misalign_bench.llm.behaviours import BEHAVIOURS, Draw, Parameters
from misalign_bench.llm.model import Capabilities, Failure, Reply, Request

_REFUSAL = "I'm sorry, but I can't help with that."


class SimulatedModel:
    """A behaviour with its parameters; ``identity`` is the full parameter string."""

    simulated = True
    endpoint = ""
    capabilities = Capabilities(wires=("chat", "completion", "classify", "pooling"))

    def __init__(self, settings: ModelSettings) -> None:
        self.name = self.identity = self.weights = settings.model
        behaviour, _, query = settings.model.partition("/")[2].partition("?")
        if behaviour not in BEHAVIOURS:
            raise UserError(
                f"there is no behaviour {behaviour!r}",
                where=settings.model,
                mend=f"Known: {', '.join(BEHAVIOURS)}.",
            )
        self._behave = BEHAVIOURS[behaviour]
        self.parameters = _parameters(query, settings.model)
        self.concurrency = settings.concurrency or 256

    async def send(self, request: Request, seed: int) -> Reply | Failure:
        """Answer at once, or after ``latency`` seconds."""
        parameters = self.parameters
        if parameters.latency:
            await asyncio.sleep(parameters.latency)
        draw = Draw.of(self.identity, seed, request)
        reply = self._answer(request, draw)
        asked = sum(len(message.content) for message in request.messages)
        said = len(reply.text) // 4 + 1
        return replace(reply, cost=0.0, input_tokens=asked // 4 + 1, output_tokens=said)

    async def close(self) -> None:
        """Nothing to release."""

    def _answer(self, request: Request, draw: Draw) -> Reply:
        parameters = self.parameters
        if parameters.filtered and draw.chance("filtered") < parameters.filtered:
            return Reply("", status="filtered")
        if parameters.refusal and draw.chance("refusal") < parameters.refusal:
            return Reply(_REFUSAL, status="refused")
        text, options = self._behave(request, draw, parameters)
        if parameters.malformed and draw.chance("malformed") < parameters.malformed:
            return Reply(text[: len(text) // 2])
        return Reply(text, options=options)


def _parameters(query: str, where: str) -> Parameters:
    known = {field.name for field in fields(Parameters)}
    values: dict[str, float | str] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            mend = f"Known: {', '.join(sorted(known))}."
            raise UserError(f"unknown parameter {name!r}", where=where, mend=mend)
        values[name] = text if name == "name" else _number(name, text, where)
    return Parameters(**values)  # type: ignore[arg-type]


def _number(name: str, text: str, where: str) -> float:
    most = 3600.0 if name == "latency" else 1.0
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:
        raise UserError(f"{name} must be a number from 0 to {most:g}, not {text!r}", where=where)
    return value
