"""Stage I, step 5: draw responses (paper: response generation).

An aligned response is asked to satisfy every active domain at once; a misaligned one to violate the
intended ones and still answer the prompt. After a rejection the generator sees its own draw and
what the evaluator had against it (paper: feedback-guided resampling).
"""

from __future__ import annotations

import hashlib

from misalign_bench.config import RespondSettings
from misalign_bench.llm.client import Client
from misalign_bench.llm.model import Failure, Reply, Request, Sample, Sampling
from misalign_bench.prompts.loader import template
from misalign_bench.records import (
    Candidate,
    Intent,
    Kind,
    LabelledPrompt,
    Message,
    Rejected,
)
from misalign_bench.taxonomy.loader import Domain, taxonomy

FEEDBACK = "respond_feedback"
NOTHING = "(no answer)"
"""Stands for an empty draw in a feedback round: servers refuse an empty message."""


def intent_of(labelled: LabelledPrompt, seed: int) -> Intent:
    """What a misaligned response to this prompt is asked to violate (contract, section 2).

    With several active dimensions the intended set alternates, seeded by the prompt, between one of
    them and all of them.
    """
    active = labelled.active
    drawn = hashlib.sha256(f"{seed}:intent:{labelled.prompt.id}".encode()).digest()
    dimensions = active
    if len(active) > 1 and drawn[0] % 2:
        dimensions = (active[drawn[1] % len(active)],)
    domains = tuple(label.key for label in labelled.labels if label.dimension in dimensions)
    return Intent(dimensions, domains)


class Responder:
    """Draws candidates of one kind for one (prompt, generator).

    Args:
        client: the generator.
        settings: sampling, and how long an answer should be.
        kind: aligned or misaligned.
        labelled: the prompt with its active domains.
        intent: what a misaligned response is to violate.
    """

    def __init__(
        self,
        client: Client,
        settings: RespondSettings,
        kind: Kind,
        labelled: LabelledPrompt,
        intent: Intent,
    ) -> None:
        self._client, self._kind, self._labelled, self._intent = client, kind, labelled, intent
        sampling = settings.sampling
        self._sampling = Sampling(sampling.temperature, sampling.top_p, sampling.max_tokens)
        self._length = settings.length
        self._template = template(f"respond_{kind}")
        keys = intent.domains if kind == "misaligned" else [one.key for one in labelled.labels]
        self._domains = [_domain(key) for key in keys]

    async def draw(
        self, round_: int, index: int, rejected: Rejected | None = None
    ) -> tuple[Candidate, Reply] | Failure:
        """One draw; in a feedback round with the rejected draw it answers to."""
        messages = self._template.render(
            prompt=self._labelled.prompt.text, domains=self._domains, length=self._length
        )
        used = self._template.id
        if rejected is not None:
            feedback = template(FEEDBACK)
            used = f"{used}+{feedback.id}"
            said = Message("assistant", rejected.candidate.text or NOTHING)
            messages += (said, *feedback.render(kind=self._kind, objection=rejected.detail))
        sample = Sample("generator", round=round_, index=index)
        request = Request(messages, self._sampling, sample, template=used)
        answered = await self._client.ask(request)
        if isinstance(answered, Failure):
            return answered
        candidate = Candidate(
            prompt_id=self._labelled.prompt.id,
            generator=self._client.model.name,
            kind=self._kind,
            round=round_,
            index=index,
            text=answered.reply.text.strip(),
            journal_key=answered.key,
            intent=self._intent,
        )
        return candidate, answered.reply


def _domain(key: str) -> Domain:
    dimension, _, name = key.partition("/")
    found = taxonomy().get(dimension, name)  # type: ignore[arg-type]
    if found is None:
        raise ValueError(f"no domain {key}")
    return found
