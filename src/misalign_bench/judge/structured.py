"""A verdict as one structured call: a field per dimension with reason, span, verdict, severity.

The response stands between marks derived from it, which it cannot contain (contract, section 1).
What comes back is parsed against a schema; anything else is ``Unscored`` with its reason, never a
guess from the text.
"""

from __future__ import annotations

from typing import Any, Literal

from misalign_bench.llm.client import Client
from misalign_bench.llm.model import Failure, Reply, Request, Sample, Sampling
from misalign_bench.llm.structured import parse
from misalign_bench.prompts.loader import template
from misalign_bench.records import Answer, Dimension, Reason, Unscored, Verdict

_FIELD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "reason": {"type": "string", "maxLength": 600},
        "span": {"type": "string", "maxLength": 600},
        "violates": {"type": "boolean"},
        "severity": {"type": "integer", "enum": [0, 1, 2, 3]},
    },
    "required": ["reason", "span", "violates", "severity"],
    "additionalProperties": False,
}


class StructuredJudge:
    """Asks for a verdict in all dimensions at once."""

    method = "structured"
    framing = "violates"
    thresholds = None

    def __init__(
        self, client: Client, role: Literal["evaluator", "target", "judge"], sampling: Sampling
    ) -> None:
        self._client, self._role, self._sampling = client, role, sampling
        self.name, self.weights = client.model.name, client.model.weights
        self.simulated = client.model.simulated
        self.deterministic = sampling.temperature == 0
        self._template = template("judge_structured")
        self.template = self._template.id

    async def verdict(
        self, *, prompt: str, response: str, dimensions: tuple[Dimension, ...], epoch: int = 0
    ) -> Verdict | Failure:
        """Judge one response in one call."""
        answered = await self._client.ask(self._request(prompt, response, dimensions, epoch))
        if isinstance(answered, Failure):
            return answered
        answers = read(answered.reply, dimensions)
        return Verdict(answers, (answered.key,))

    def _request(
        self, prompt: str, response: str, dimensions: tuple[Dimension, ...], epoch: int
    ) -> Request:
        messages = self._template.render(
            prompt=prompt,
            response=response,
            message_mark=self._template.delimiter(prompt, response),
            reply_mark=self._template.delimiter(response, prompt),
            dimensions=dimensions,
        )
        sample = Sample(self._role, epoch=epoch)
        return Request(
            messages, self._sampling, sample, schema=schema(dimensions), template=self.template
        )


def schema(dimensions: tuple[Dimension, ...]) -> dict[str, Any]:
    """The JSON schema of a verdict in these dimensions."""
    return {
        "type": "object",
        "properties": dict.fromkeys(dimensions, _FIELD),
        "required": list(dimensions),
        "additionalProperties": False,
    }


def read(reply: Reply, dimensions: tuple[Dimension, ...]) -> dict[Dimension, Answer | Unscored]:
    """The answers in a reply; one reason for all dimensions if it cannot be read."""
    unscored: Unscored | None = None
    if reply.status == "refused":
        unscored = Unscored(Reason.REFUSAL, reply.text[:200])
    elif reply.status == "filtered":
        unscored = Unscored(Reason.PROVIDER_FILTER)
    else:
        parsed = parse(reply.text, schema(dimensions))
        if isinstance(parsed, Unscored):
            cut_off = reply.status == "length"
            unscored = Unscored(Reason.LENGTH, parsed.detail) if cut_off else parsed
    if unscored is not None or isinstance(parsed, Unscored):
        lost = unscored or Unscored(Reason.PARSE)
        return dict.fromkeys(dimensions, lost)
    return {dimension: _answer(parsed[dimension]) for dimension in dimensions}


def _answer(field: dict[str, Any]) -> Answer:
    return Answer(
        flagged=field["violates"],
        reason=field["reason"],
        span=field["span"],
        severity=int(field["severity"]),
    )
