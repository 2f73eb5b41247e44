"""Stage I, step 2: label every prompt over the 111 domains (paper: multi-label, delta = 0.5).

A classifier gives a probability per domain; a prompt has the labels whose probability is at least
delta, one threshold for all or one per dimension or domain. ``None`` and ``Unknown`` are the
absence of a label: a prompt without any is ``Dropped(no_domain)`` (contract, section 2). A prompt
whose answer cannot be read is dropped with the reason and never counted as one without labels.

Methods: ``embedding`` (no language model; zero-shot, or a head that ``misalign-bench fit`` wrote),
``yesno`` and ``joint`` (a language model), a cascade of the first and one of the others, and
``published``, which keeps the labels that came with the prompts.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from misalign_bench.config import ClassifySettings
from misalign_bench.config_model import ModelSettings
from misalign_bench.errors import UserError
from misalign_bench.llm.client import Client
from misalign_bench.llm.model import Failure, Reply, Sampling
from misalign_bench.records import (
    DIMENSIONS,
    Dropped,
    Label,
    LabelledPrompt,
    Pending,
    Prompt,
    Reason,
)
from misalign_bench.taxonomy.loader import taxonomy

STAGE = "classify"
_BATCH = 256
"""Texts in one call of an embedding model."""

Classified = tuple[float, ...] | Pending | Dropped
"""111 probabilities in the taxonomy's order, or why there are none."""

DELTA = 0.5
"""The threshold of a domain that none is given for (the paper's)."""

Delta = float | Mapping[str, float]
"""Least probability of a label: for all, or by ``dimension`` or ``dimension/name``."""


class Classifier(Protocol):
    """Gives each prompt a probability per domain."""

    async def probabilities(self, prompts: Sequence[Prompt]) -> list[Classified]:
        """Return one result per prompt, in order.

        A prompt whose call may yet be answered is ``Pending``; one whose answer is no answer is
        ``Dropped`` with its reason.
        """

    def describe(self) -> dict[str, Any]:
        """Return method, model, and what was fitted and measured, for manifest and card."""


async def classify(
    prompts: Sequence[Prompt], classifier: Classifier, delta: Delta
) -> tuple[list[LabelledPrompt], list[Dropped], list[Pending]]:
    """Label prompts; those without a label are dropped.

    Args:
        prompts: what to label.
        classifier: any of the methods.
        delta: least probability of a label, in (0, 1).

    Raises:
        UserError: ``delta`` names what is no dimension and no domain.

    Returns:
        Labelled prompts, dropped ones and pending ones, each in the order of ``prompts``.
    """
    kept: list[LabelledPrompt] = []
    dropped: list[Dropped] = []
    pending: list[Pending] = []
    for prompt, result in zip(prompts, await classifier.probabilities(prompts), strict=True):
        if isinstance(result, Pending):
            pending.append(result)
        elif isinstance(result, Dropped):
            dropped.append(result)
        elif (one := labelled(prompt, result, delta)).labels:
            kept.append(one)
        else:
            dropped.append(_without_domain(prompt, result, delta))
    return kept, dropped, pending


async def in_batches(
    prompts: Sequence[Prompt], classify_texts: Callable[[Sequence[str]], Sequence[Classified]]
) -> list[Classified]:
    """Classify texts some at a time, beside the event loop."""
    results: list[Classified] = []
    for start in range(0, len(prompts), _BATCH):
        texts = [prompt.text for prompt in prompts[start : start + _BATCH]]
        results += await asyncio.to_thread(classify_texts, texts)
    return results


def labelled(prompt: Prompt, probabilities: Sequence[float], delta: Delta) -> LabelledPrompt:
    """Return the prompt with the domains whose probability is at least delta as its labels."""
    domains = taxonomy().domains
    labels = tuple(
        Label(domain.dimension, domain.name, probability)
        for domain, probability, least in zip(
            domains, probabilities, thresholds(delta), strict=True
        )
        if probability >= least
    )
    return LabelledPrompt(prompt, labels, tuple(probabilities))


def with_one_label(labelled: LabelledPrompt) -> LabelledPrompt:
    """Return the prompt with its most probable label in each dimension, as in the published data.

    Of two equally probable ones the first in the taxonomy stays.
    """
    best = [
        max(labels, key=lambda label: label.probability)
        for dimension in DIMENSIONS
        if (labels := labelled.labels_of(dimension))
    ]
    return replace(labelled, labels=tuple(best))


def thresholds(delta: Delta) -> tuple[float, ...]:
    """Return the threshold of each domain: its own, else its dimension's, else 0.5.

    Raises:
        UserError: a name that is no dimension and no domain.
    """
    if not isinstance(delta, Mapping):
        return (float(delta),) * len(taxonomy().domains)
    return _thresholds(tuple(delta.items()))


@functools.cache
def _thresholds(given: tuple[tuple[str, float], ...]) -> tuple[float, ...]:
    domains = taxonomy().domains
    named = dict(given)
    if strange := sorted(named.keys() - set(DIMENSIONS) - {domain.key for domain in domains}):
        raise UserError(
            f"{strange[0]!r} is no dimension and no domain",
            where="classify.delta",
            mend="Write safety, value, culture or dimension/name. See misalign-bench domains",
        )
    return tuple(
        float(named.get(domain.key, named.get(domain.dimension, DELTA))) for domain in domains
    )


def make_classifier(
    settings: ClassifySettings, model: ModelSettings, client: Client | None = None
) -> Classifier:
    """Return the classifier that these settings describe.

    Args:
        settings: the method, a head or a cascade, and the number of candidates of ``yesno``.
        model: the role ``classifier``; for ``embedding`` it names an embedder.
        client: asks that model over the run's journal; ``yesno`` and ``joint`` need it.

    Raises:
        UserError: the model does not fit the method, or something to install is missing.
        OutsideWorld: the embedder's weights could not be had.
    """
    if settings.method == "published":
        return PublishedClassifier()
    if settings.method == "embedding":
        return _embedding(model.model, settings)
    if client is None:
        raise ValueError(f"the method {settings.method} asks a model and needs a client")
    asking = _asking(settings, model, client)
    if settings.cascade is None:
        return asking
    from misalign_bench.build.classify.cascade import CascadeClassifier

    return CascadeClassifier(_embedding(settings.embedder, settings), asking, settings.cascade.when)


def _asking(settings: ClassifySettings, model: ModelSettings, client: Client) -> Classifier:
    """The method that asks a language model."""
    if settings.method == "joint":
        from misalign_bench.build.classify.joint import JointClassifier

        held = model.sampling
        sampling = Sampling(held.temperature, held.top_p, held.max_tokens) if held else None
        return JointClassifier(client, sampling)
    from misalign_bench.build.classify.yesno import YesNoClassifier

    ranker: Classifier | None = None
    if settings.candidates < len(taxonomy().domains):
        ranker = _embedding(settings.embedder, settings)
    return YesNoClassifier(client, ranker, settings.candidates)


def _embedding(name: str, settings: ClassifySettings) -> Classifier:
    """Zero-shot, or with the head that the settings name."""
    if not settings.head:
        return _zero_shot(name)
    from misalign_bench.build.classify.fitted import FittedClassifier

    classifier = FittedClassifier.load(settings.head, name)
    if settings.method == "embedding" and "delta" not in settings.model_fields_set:
        own = ", ".join(f"{key}: {value:g}" for key, value in classifier.delta.items())
        raise UserError(
            "the probabilities of a fitted head are calibrated, and its labels begin below 0.5",
            where="classify.delta",
            mend=f"Write what was fitted with it, delta: {{{own}}}, or another of your own",
        )
    return classifier


@functools.cache
def _zero_shot(name: str) -> Classifier:
    """Fitted once a process: a plan and the build after it use the same."""
    from misalign_bench.build.classify.embedding import EmbeddingClassifier

    return EmbeddingClassifier.load(name)


class PublishedClassifier:
    """Keeps the labels that came with the prompts, as probability 1."""

    async def probabilities(self, prompts: Sequence[Prompt]) -> list[Classified]:
        """Return 1.0 for a published label and 0.0 for any other domain.

        Raises:
            UserError: a prompt came from a source without labels.
        """
        return [self._of(prompt) for prompt in prompts]

    def describe(self) -> dict[str, Any]:
        """Return the method's name; nothing is fitted."""
        return {"method": "published", "model": "", "taxonomy": taxonomy().digest}

    def _of(self, prompt: Prompt) -> tuple[float, ...]:
        if prompt.published is None:
            raise UserError(
                "the prompts came without labels",
                where=prompt.source,
                mend="Use another method: embedding, yesno or joint",
            )
        held = taxonomy()
        places = {held.index(key) for key in prompt.published}
        return tuple(float(place in places) for place in range(len(held.domains)))


async def each(
    prompts: Sequence[Prompt], one: Callable[[Prompt], Awaitable[Classified]], in_flight: int
) -> list[Classified]:
    """Classify prompts, at most ``in_flight`` at once; the results keep the prompts' order.

    What stops the run in one prompt stops the others too.
    """
    results: list[Classified | None] = [None] * len(prompts)
    work = iter(enumerate(prompts))

    async def worker() -> None:
        for place, prompt in work:
            results[place] = await one(prompt)

    workers = [asyncio.ensure_future(worker()) for _ in range(min(in_flight, len(prompts)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return [result for result in results if result is not None]


def unanswered(prompt: Prompt, failure: Failure) -> Pending | Dropped:
    """Return what becomes of a prompt whose call failed: closed for good, or waiting."""
    detail = f"{failure.kind}: {failure.detail}"
    if failure.terminal:
        return Dropped(prompt.id, STAGE, Reason.TRANSPORT, detail)
    return Pending(prompt.id, STAGE, Reason.TRANSPORT, detail)


def no_answer(prompt: Prompt, reply: Reply) -> Dropped | None:
    """Return the drop of a prompt that the model or its provider refused, else None."""
    if reply.status == "refused":
        return Dropped(prompt.id, STAGE, Reason.REFUSAL, reply.text[:200])
    if reply.status == "filtered":
        return Dropped(prompt.id, STAGE, Reason.PROVIDER_FILTER)
    return None


def _without_domain(prompt: Prompt, probabilities: Sequence[float], delta: Delta) -> Dropped:
    least = thresholds(delta)
    best = max(range(len(probabilities)), key=lambda place: probabilities[place] - least[place])
    nearest = f"{taxonomy().domains[best].key} {probabilities[best]:.3f}"
    return Dropped(prompt.id, STAGE, Reason.NO_DOMAIN, f"nearest: {nearest}, delta {least[best]:g}")
