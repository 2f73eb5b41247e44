"""Classification by log-probability: one yes/no question per candidate domain.

The embedding classifier ranks the domains, the model is asked about the best ``candidates`` of
them (with 12, nine tenths of the labels of our labelled prompts are among them, cross-validated; of
the published labels four tenths, or 85% with a fitted head as ranker: ``docs/classification.md``),
and the probability is that of *yes* among *yes* and *no*. A domain that is no candidate gets
probability 0.0: it was not asked about. With all 111 as candidates nothing is ranked.

The prompt comes before the question, so that the questions about it share their prefix. Small
models lean to yes: Qwen 1.5B, asked about the six best candidates of ten labelled prompts, ranked
them with AUC 0.78 (the embedding 0.86) and said yes to nearly all, so that delta = 0.5 is too low
for it. The method is meant for larger models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from misalign_bench.build.classify.classify import (
    STAGE,
    Classified,
    Classifier,
    each,
    no_answer,
    unanswered,
)
from misalign_bench.errors import UserError
from misalign_bench.llm.client import Client
from misalign_bench.llm.model import Failure, Reply, Request, Sample, Sampling
from misalign_bench.prompts.loader import template
from misalign_bench.records import Dropped, Prompt, Reason
from misalign_bench.taxonomy.loader import Domain, taxonomy

OPTIONS = ("yes", "no")
GREEDY = Sampling(temperature=0.0, top_p=1.0, max_tokens=1)
IN_FLIGHT = 256


class YesNoClassifier:
    """Asks about each candidate domain in turn.

    Args:
        client: the model.
        ranker: gives the order in which domains become candidates; None asks about all.
        candidates: how many domains a prompt is asked about.

    Raises:
        UserError: the model gives no log-probabilities.
    """

    def __init__(self, client: Client, ranker: Classifier | None, candidates: int) -> None:
        if not client.model.capabilities.options:
            raise UserError(
                "it gives no log-probabilities", where=client.model.name, mend="method: joint"
            )
        self._client, self._ranker, self._candidates = client, ranker, candidates
        self._template = template("classify_yesno")
        # One prompt at a time where the engine keeps one prefix: its questions share the prompt.
        self._in_flight = 1 if client.model.capabilities.shared_prefix else IN_FLIGHT

    async def probabilities(self, prompts: Sequence[Prompt]) -> list[Classified]:
        """Return one result per prompt; if one question has no answer, the prompt has none."""
        ranked = await self._ranked(prompts)

        async def one(prompt: Prompt) -> Classified:
            places = ranked[prompt.id]
            return places if isinstance(places, Dropped) else await self._ask_all(prompt, places)

        return await each(prompts, one, self._in_flight)

    def describe(self) -> dict[str, Any]:
        """Return model, template, number of candidates, and the ranker's description."""
        return {
            "method": "yesno",
            "model": self._client.model.name,
            "identity": self._client.model.identity,
            "simulated": self._client.model.simulated,
            "taxonomy": taxonomy().digest,
            "template": self._template.id,
            "candidates": self._candidates,
            "ranker": self._ranker.describe() if self._ranker else None,
        }

    async def _ranked(self, prompts: Sequence[Prompt]) -> dict[str, list[int] | Dropped]:
        """The candidates of each prompt, by place in the taxonomy."""
        everything = list(range(len(taxonomy().domains)))
        if self._ranker is None:
            return {prompt.id: everything for prompt in prompts}
        ranked: dict[str, list[int] | Dropped] = {}
        for prompt, held in zip(prompts, await self._ranker.probabilities(prompts), strict=True):
            if isinstance(held, tuple):
                best = sorted(everything, key=held.__getitem__, reverse=True)
                ranked[prompt.id] = sorted(best[: self._candidates])
            else:
                ranked[prompt.id] = Dropped(prompt.id, STAGE, Reason.UNSCORED, held.detail)
        return ranked

    async def _ask_all(self, prompt: Prompt, places: Sequence[int]) -> Classified:
        domains = taxonomy().domains
        found = [0.0] * len(domains)
        for place in places:
            answered = await self._client.ask(self._request(prompt, domains[place]))
            if isinstance(answered, Failure):
                return unanswered(prompt, answered)
            chance = _read(prompt, answered.reply)
            if isinstance(chance, Dropped):
                return chance
            found[place] = chance
        return tuple(found)

    def _request(self, prompt: Prompt, domain: Domain) -> Request:
        mark = self._template.delimiter(prompt.text)
        messages = self._template.render(prompt=prompt.text, mark=mark, domain=domain)
        sample = Sample("classifier")
        return Request(messages, GREEDY, sample, options=OPTIONS, template=self._template.id)


def share_of_yes(options: Mapping[str, float]) -> float:
    """Return the probability of yes among yes and no, from their log-probabilities.

    >>> round(share_of_yes({"yes": -0.1, "no": -2.4}), 3)
    0.909
    """
    return 0.5 * (1.0 + math.tanh(0.5 * (options["yes"] - options["no"])))


def _read(prompt: Prompt, reply: Reply) -> float | Dropped:
    if (refused := no_answer(prompt, reply)) is not None:
        return refused
    if reply.status == "length":
        return Dropped(prompt.id, STAGE, Reason.LENGTH, "longer than the model's context")
    if not reply.options:
        return Dropped(prompt.id, STAGE, Reason.NO_LOGPROBS)
    return share_of_yes(reply.options)
