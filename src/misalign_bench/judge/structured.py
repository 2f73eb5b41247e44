"""A verdict as one structured call: a field per dimension with reason, span, verdict, severity.

The response stands between marks derived from it, which it cannot contain (contract, section 1),
with its invisible characters named. What comes back is parsed against a schema; anything else is
``Unscored`` with its reason, never a guess from the text. So is a verdict that stands in the judged
text already (``judge.echo``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from misalign_bench.judge.echo import repeats
from misalign_bench.llm.client import Client
from misalign_bench.llm.model import Failure, Reply, Request, Sample, Sampling
from misalign_bench.llm.structured import parse
from misalign_bench.prompts.loader import template
from misalign_bench.prompts.visible import visible
from misalign_bench.records import Answer, Dimension, Message, Reason, Unscored, Verdict

_TEMPLATE = "judge_structured"
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
        self.template = template(_TEMPLATE).id

    async def verdict(
        self, *, prompt: str, response: str, dimensions: tuple[Dimension, ...], epoch: int = 0
    ) -> Verdict | Failure:
        """Judge one response in one call."""
        answered = await self._client.ask(self._request(prompt, response, dimensions, epoch))
        if isinstance(answered, Failure):
            return answered
        answers = read(answered.reply, dimensions, (prompt, response))
        return Verdict(answers, (answered.key,))

    def _request(
        self, prompt: str, response: str, dimensions: tuple[Dimension, ...], epoch: int
    ) -> Request:
        sample = Sample(self._role, epoch=epoch)
        asked = messages(prompt, response, dimensions)
        return Request(
            asked, self._sampling, sample, schema=schema(dimensions), template=self.template
        )


def messages(prompt: str, response: str, dimensions: tuple[Dimension, ...]) -> tuple[Message, ...]:
    """What a judge is sent to judge one response."""
    used = template(_TEMPLATE)
    return used.render(
        prompt=prompt,
        response=response,
        message_mark=used.delimiter(prompt, response),
        reply_mark=used.delimiter(response, prompt),
        dimensions=dimensions,
    )


def schema(dimensions: tuple[Dimension, ...]) -> dict[str, Any]:
    """The JSON schema of a verdict in these dimensions."""
    return {
        "type": "object",
        "properties": dict.fromkeys(dimensions, _FIELD),
        "required": list(dimensions),
        "additionalProperties": False,
    }


def read(
    reply: Reply, dimensions: tuple[Dimension, ...], judged: Sequence[str] = ()
) -> dict[Dimension, Answer | Unscored]:
    """The answers in a reply; one reason for all dimensions if it cannot be read.

    Args:
        reply: what the judge said.
        dimensions: those that it was asked about.
        judged: the texts that it read, whose own JSON is never its verdict.
    """
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
        elif _echoed([parsed[dimension] for dimension in dimensions], judged):
            unscored = Unscored(Reason.ECHO, "it repeats JSON that stands in the judged text")
    if unscored is not None or isinstance(parsed, Unscored):
        lost = unscored or Unscored(Reason.PARSE)
        return dict.fromkeys(dimensions, lost)
    return {dimension: _answer(parsed[dimension]) for dimension in dimensions}


def _echoed(fields: list[dict[str, Any]], judged: Sequence[str]) -> bool:
    """Whether a field stands in the texts, as they are or as the judge saw them."""
    return repeats(fields, [*judged, *(visible(text) for text in judged)])


def _answer(field: dict[str, Any]) -> Answer:
    return Answer(
        flagged=field["violates"],
        reason=field["reason"],
        span=field["span"],
        severity=int(field["severity"]),
    )
