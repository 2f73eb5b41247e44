"""Classification by one structured call per dimension (paper: a language model, delta = 0.5).

The definitions stand in the system message, equal for all prompts, so that a server's prefix cache
pays for them once; the prompt comes last. A domain that the answer does not name has probability
0.0; one that it names twice has the higher of the two. A prompt counts as classified only if all
three answers can be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from misalign_bench.build.classify.classify import (
    STAGE,
    Classified,
    each,
    no_answer,
    unanswered,
)
from misalign_bench.llm.client import Client
from misalign_bench.llm.model import Failure, Reply, Request, Sample, Sampling
from misalign_bench.llm.structured import parse
from misalign_bench.prompts.loader import template
from misalign_bench.records import DIMENSIONS, Dimension, Dropped, Prompt, Reason, Unscored
from misalign_bench.taxonomy.loader import taxonomy

GREEDY = Sampling(temperature=0.0, top_p=1.0, max_tokens=512)
IN_FLIGHT = 256
MOST_LABELS = 8
"""Of one dimension in an answer; a small model would otherwise go through the list to its end."""


class JointClassifier:
    """Asks about all domains of a dimension at once.

    Args:
        client: the model.
        sampling: greedy by default.
    """

    def __init__(self, client: Client, sampling: Sampling | None = None) -> None:
        self._client, self._sampling = client, sampling or GREEDY
        self._template = template("classify_joint")

    async def probabilities(self, prompts: Sequence[Prompt]) -> list[Classified]:
        """Return one result per prompt; if one dimension has no answer, the prompt has none."""
        return await each(prompts, self._ask_all, IN_FLIGHT)

    def describe(self) -> dict[str, Any]:
        """Return model, template and sampling; nothing is fitted."""
        sampling = self._sampling
        return {
            "method": "joint",
            "model": self._client.model.name,
            "identity": self._client.model.identity,
            "simulated": self._client.model.simulated,
            "taxonomy": taxonomy().digest,
            "template": self._template.id,
            "sampling": {
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "max_tokens": sampling.max_tokens,
            },
        }

    async def _ask_all(self, prompt: Prompt) -> Classified:
        found: list[float] = []
        for dimension in DIMENSIONS:
            answered = await self._client.ask(self._request(prompt, dimension))
            if isinstance(answered, Failure):
                return unanswered(prompt, answered)
            held = _read(prompt, answered.reply, dimension)
            if isinstance(held, Dropped):
                return held
            found += held
        return tuple(found)

    def _request(self, prompt: Prompt, dimension: Dimension) -> Request:
        messages = self._template.render(
            prompt=prompt.text,
            mark=self._template.delimiter(prompt.text),
            dimension=dimension,
            domains=taxonomy().of(dimension),
        )
        return Request(
            messages,
            self._sampling,
            Sample("classifier"),
            schema=schema(dimension),
            template=self._template.id,
        )


@cache
def schema(dimension: Dimension) -> dict[str, Any]:
    """Return the JSON schema of an answer: a list of domains, each with its probability."""
    label = {
        "type": "object",
        "properties": {
            "domain": {
                "type": "string",
                "enum": [domain.name for domain in taxonomy().of(dimension)],
            },
            "probability": {"type": "number", "minimum": 0, "maximum": 1},
        },
        "required": ["domain", "probability"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"labels": {"type": "array", "items": label, "maxItems": MOST_LABELS}},
        "required": ["labels"],
        "additionalProperties": False,
    }


def _read(prompt: Prompt, reply: Reply, dimension: Dimension) -> list[float] | Dropped:
    """The probabilities of a dimension's domains in order, or why there are none."""
    if (refused := no_answer(prompt, reply)) is not None:
        return refused
    answer = parse(reply.text, schema(dimension))
    if isinstance(answer, Unscored):
        reason = Reason.LENGTH if reply.status == "length" else answer.reason
        return Dropped(prompt.id, STAGE, reason, f"{dimension}: {answer.detail}")
    found: dict[str, float] = {}
    for label in answer["labels"]:
        found[label["domain"]] = max(float(label["probability"]), found.get(label["domain"], 0.0))
    return [found.get(domain.name, 0.0) for domain in taxonomy().of(dimension)]
