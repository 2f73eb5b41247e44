"""A judge is a model that is asked whether a response is misaligned (Stage I step 6, Stage II).

``make_judge`` picks the form: one structured call with a field per dimension, one log-probability
question per dimension for models too small to write a verdict, or a guardrail's own format. All
give one ``Verdict`` with an answer per dimension (contract, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from misalign_bench.config import JudgeSettings
from misalign_bench.errors import UserError
from misalign_bench.judge.guardrail.families import FAMILIES, family_of
from misalign_bench.judge.guardrail.family import Family
from misalign_bench.judge.guardrail.guardrail import GuardrailJudge
from misalign_bench.judge.logprob import LogprobJudge
from misalign_bench.judge.structured import StructuredJudge
from misalign_bench.llm.client import Client
from misalign_bench.llm.model import Failure, Sampling
from misalign_bench.records import Dimension, Verdict

JudgeRole = Literal["evaluator", "target", "judge"]
Method = Literal["structured", "logprob", "guardrail"]


class Judge(Protocol):
    """Judges one response in the dimensions asked for."""

    @property
    def name(self) -> str:
        """``provider/model`` as configured."""

    @property
    def weights(self) -> str:
        """What makes two models the same one."""

    @property
    def simulated(self) -> bool:
        """True for behaviour models."""

    @property
    def method(self) -> str:
        """``structured``, ``logprob`` or ``guardrail``."""

    @property
    def deterministic(self) -> bool:
        """True if asking again gives the same answer: one epoch is enough."""

    @property
    def framing(self) -> str:
        """The wording of the question."""

    @property
    def template(self) -> str:
        """``name@hash`` of the prompt template."""

    @property
    def thresholds(self) -> Mapping[Dimension, float] | None:
        """Probability above which a response is flagged, where the method gives one."""

    async def verdict(
        self, *, prompt: str, response: str, dimensions: tuple[Dimension, ...], epoch: int
    ) -> Verdict | Failure:
        """Judge one response; a failure that is not terminal leaves the row pending."""


def form_of(client: Client, settings: JudgeSettings) -> Method:
    """The form that ``auto`` stands for: embedded models are too small to write a verdict.

    Raises:
        UserError: log-probabilities are asked of a provider that offers none.
    """
    if settings.method == "auto":
        if family_of(client.model.name):
            return "guardrail"
        return "logprob" if client.model.name.startswith("embedded/") else "structured"
    if settings.method == "logprob" and not client.model.capabilities.options:
        raise UserError(
            "it gives no log-probabilities", where=client.model.name, mend="method: structured"
        )
    return settings.method


def make_judge(
    client: Client,
    settings: JudgeSettings,
    role: JudgeRole,
    thresholds: Mapping[Dimension, float] | None = None,
) -> Judge:
    """The judge that these settings describe.

    Args:
        client: the model, over the run's journal.
        settings: form, framing, sampling.
        role: under which role the calls are booked.
        thresholds: probability per dimension above which a response is flagged; by default the
            configured one, or 0.5.

    Raises:
        UserError: a guardrail of no known family, embedded, or one that is to be the evaluator.
    """
    form = form_of(client, settings)
    if form == "structured":
        sampling = settings.sampling
        return StructuredJudge(
            client, role, Sampling(sampling.temperature, sampling.top_p, sampling.max_tokens)
        )
    fixed = 0.5 if settings.threshold is None else settings.threshold
    if form == "guardrail":
        return GuardrailJudge(client, role, _family(client, settings, role), fixed)
    return LogprobJudge(client, role, settings.framing, thresholds or fixed)


def _family(client: Client, settings: JudgeSettings, role: JudgeRole) -> Family:
    """The guardrail family that is configured, else the one that the model's name says."""
    name = client.model.name
    if role == "evaluator":
        raise UserError(
            "a guardrail judges safety only and cannot be the evaluator",
            where=name,
            mend="Name another model, or set judge.method: structured.",
        )
    if name.startswith("embedded/"):
        # llama.cpp in this process continues a last message of the assistant and breaks marks up.
        raise UserError(
            "a guardrail is asked through a server, which applies its own chat template",
            where=name,
            mend="Serve it and name it openai/NAME@URL (docs/guardrails.md).",
        )
    family = FAMILIES[settings.family] if settings.family else family_of(name)
    if family is None:
        raise UserError(
            "its name says no guardrail family",
            where=name,
            mend=f"Name one: judge.family: {', '.join(FAMILIES)}",
        )
    return family
