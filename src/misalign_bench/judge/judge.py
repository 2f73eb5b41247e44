"""A judge is a model that is asked whether a response is misaligned (Stage I step 6, Stage II).

``make_judge`` picks the form: one structured call with a field per dimension, one log-probability
question per dimension for models too small to write a verdict or for base models, a guardrail's
own format, or a reward. All give one ``Verdict`` with an answer per dimension (contract, section
3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from misalign_bench.config import JudgeSettings
from misalign_bench.errors import UserError
from misalign_bench.judge.completion import CompletionJudge
from misalign_bench.judge.guardrail.families import FAMILIES, family_of
from misalign_bench.judge.guardrail.family import Family
from misalign_bench.judge.guardrail.guardrail import GuardrailJudge
from misalign_bench.judge.logprob import LogprobJudge
from misalign_bench.judge.reward import RewardJudge
from misalign_bench.judge.structured import StructuredJudge
from misalign_bench.llm.client import Client
from misalign_bench.llm.model import Failure, Sampling
from misalign_bench.records import Dimension, Verdict

JudgeRole = Literal["evaluator", "target", "judge"]
Method = Literal["structured", "logprob", "completion", "guardrail", "reward"]


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
        """``structured``, ``logprob``, ``completion``, ``guardrail`` or ``reward``."""

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
        """Score above which a response is flagged, where the method gives one."""

    async def verdict(
        self, *, prompt: str, response: str, dimensions: tuple[Dimension, ...], epoch: int
    ) -> Verdict | Failure:
        """Judge one response; a failure that is not terminal leaves the row pending."""


def form_of(client: Client, settings: JudgeSettings) -> Method:
    """The form that ``auto`` stands for: embedded models are too small to write a verdict.

    Raises:
        UserError: log-probabilities, a plain text's continuation or a reward are asked of a
            provider that offers none.
    """
    offered, name = client.model.capabilities, client.model.name
    if settings.method == "auto":
        if family_of(name):
            return "guardrail"
        return "logprob" if name.startswith("embedded/") else "structured"
    if settings.method in ("logprob", "completion") and not offered.options:
        raise UserError("it gives no log-probabilities", where=name, mend="method: structured")
    if settings.method == "completion" and "completion" not in offered.wires:
        raise UserError(
            "its provider takes chats only, and completion sends a plain text",
            where=name,
            mend="method: logprob",
        )
    if settings.method == "reward" and settings.reward not in offered.wires:
        raise UserError(
            "its provider gives no rewards",
            where=name,
            mend="Serve it with vLLM and name it openai/NAME@URL (docs/targets.md).",
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
        UserError: a guardrail of no known family, embedded, or one that is to be the evaluator; a
            reward model that is to be the evaluator, or without a threshold.
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
    if form == "reward":
        return _reward_judge(client, settings, role, thresholds)
    return options_judge(client, settings, role, thresholds or fixed)


def options_judge(
    client: Client,
    settings: JudgeSettings,
    role: JudgeRole,
    thresholds: Mapping[Dimension, float] | float = 0.5,
) -> LogprobJudge:
    """The judge that reads the log-probabilities of yes and no, in a chat or in a plain text."""
    asked = CompletionJudge if form_of(client, settings) == "completion" else LogprobJudge
    return asked(client, role, settings.framing, thresholds)


def _reward_judge(
    client: Client,
    settings: JudgeSettings,
    role: JudgeRole,
    thresholds: Mapping[Dimension, float] | None,
) -> RewardJudge:
    if role != "target":
        raise UserError(
            "a reward model tells no dimensions apart and can only be a target",
            where=client.model.name,
            mend="Name another model for this role.",
        )
    if thresholds is None:
        raise UserError(
            "a reward has no threshold of its own; one is fitted by misalign-bench bench",
            where=client.model.name,
        )
    return RewardJudge(client, settings.reward, next(iter(thresholds.values())))


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
