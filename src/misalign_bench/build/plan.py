"""What Stage I will take before its first model call: calls, tokens, cost, time by role and model.

Each figure is a range. Its low end is the best case (every response accepted at the first draw, or
a pair given up before its second response), its high end the worst (none accepted, every expansion
round at full deficit). The steps that ask no model are run for real, so prompts and deficits are
exact where the classifier is an embedding or the labels are published; where a model labels the
prompts, everything that rests on labels starts at nothing. Requests are rendered from the real
templates by the real steps over a stand-in (``plan_bounds.Rehearsal``), and bounds turn them into
tokens, dollars and seconds. What is not planned: attempts that fail and are made again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from misalign_bench.build.classify.classify import (
    Classifier,
    PublishedClassifier,
    classify,
    make_classifier,
)
from misalign_bench.build.classify.yesno import YesNoClassifier
from misalign_bench.build.deduplicate import deduplicate
from misalign_bench.build.expand import counts, expand, plan_round, wanted_domains
from misalign_bench.build.expand_answers import Order
from misalign_bench.build.ingest import ingest
from misalign_bench.build.plan_bounds import Load, Range, Rehearsal, tokens, total, weigh
from misalign_bench.build.plan_pairs import generators_each, plan_expanded_pairs, plan_pairs
from misalign_bench.build.plan_table import Plan, Tally
from misalign_bench.build.policy import barred
from misalign_bench.build.split import with_splits
from misalign_bench.config import ClassifySettings, RunSettings
from misalign_bench.journal.store import Journal
from misalign_bench.prompts.loader import quoted
from misalign_bench.records import Label, LabelledPrompt, Prompt
from misalign_bench.taxonomy.loader import taxonomy

_LONGEST_WRITTEN = 400
"""Characters of an expanded prompt at most (the schema of ``expand``)."""


@dataclass(frozen=True, slots=True)
class _Pool:
    """The prompts after the steps that ask no model.

    Attributes:
        prompts: what is classified.
        kept: what is left of them without near-duplicates.
        allowed: what of these responses may be drawn for.
        exact: whether their labels are known; else each has all labels it could get.
    """

    rows: int
    prompts: tuple[Prompt, ...]
    kept: tuple[LabelledPrompt, ...]
    allowed: tuple[LabelledPrompt, ...]
    exact: bool


async def plan(
    settings: RunSettings,
    *,
    journal: Journal | None = None,
    no_new_draws: bool = False,
    accept_failures: bool = False,
) -> Plan:
    """Plan a build. No model is loaded but the embedding model, and none is asked.

    Args:
        settings: of the run.
        journal: of an earlier run, to count which first calls it holds already.
        no_new_draws: responses come from the journal only.
        accept_failures: calls may stay unanswered, so that every range starts at nothing.

    Raises:
        UserError: bad input or configuration.
        OutsideWorld: the source or the embedding model cannot be had.
    """
    pool = await _pool(settings)
    tally = Tally(settings, journal, lenient=accept_failures)
    added, proposed = await _expansion(settings, pool, tally)
    await _classification(settings, pool, proposed, tally)
    await plan_pairs(settings, pool.allowed, tally, exact=pool.exact)
    if added:
        await plan_expanded_pairs(settings, _longest_prompt(settings), added, tally)
    allowed = Range(len(pool.allowed) if pool.exact else 0, len(pool.allowed))
    found = {
        "rows": Range(pool.rows, pool.rows),
        "prompts": Range(len(pool.prompts), len(pool.prompts)),
        "answered": allowed + Range(0, added),
        "expanded": Range(0, added),
        "pairs": Range(0, (len(pool.allowed) + added) * generators_each(settings)),
    }
    return tally.plan(found, no_new_draws=no_new_draws, exact=pool.exact)


async def _pool(settings: RunSettings) -> _Pool:
    """Ingest, classify where that asks no model, drop near-duplicates, apply the policy."""
    ingested = ingest(settings.source)
    exact = settings.classify.method in ("embedding", "published")
    if exact:
        classifier = make_classifier(settings.classify, settings.roles.classifier)
        labelled, _, _ = await classify(ingested.prompts, classifier, settings.classify.delta)
    else:
        labelled = [_with_any_labels(prompt, settings.classify) for prompt in ingested.prompts]
    prompts = [one.prompt for one in labelled]
    found = deduplicate(prompts, settings.deduplicate, among=ingested.prompts)
    kept_ids = {prompt.id for prompt in found.kept}
    # Which prompt displaces which is known only once it is known which have a label at all.
    held = [one for one in labelled if not exact or one.prompt.id in kept_ids]
    kept = with_splits(held, found.clusters, settings.seed, settings.split)
    # Labels that a prompt only might get do not bar it, its words do.
    judged = kept if exact else tuple(replace(one, labels=()) for one in kept)
    allowed = tuple(
        one for one, bare in zip(kept, judged, strict=True) if barred(bare, settings.policy) is None
    )
    return _Pool(ingested.rows, ingested.prompts, kept, allowed, exact)


def _with_any_labels(prompt: Prompt, classify: ClassifySettings) -> LabelledPrompt:
    """The prompt with as many labels as it could get, those with the longest names."""
    domains = sorted(taxonomy().domains, key=lambda domain: -len(domain.name))
    if classify.method == "yesno":
        domains = domains[: classify.candidates]
    labels = tuple(Label(domain.dimension, domain.name, 1.0) for domain in domains)
    return LabelledPrompt(prompt, labels, ())


def _longest_prompt(settings: RunSettings) -> LabelledPrompt:
    """Stands for an expanded prompt: as many tokens as one can have."""
    # Digits weigh a token each; a script that is not Latin may take four for a letter.
    weight = 1 if settings.source.language == "en" else 4
    text = "0" * _LONGEST_WRITTEN * weight
    prompt = Prompt("p0000000000000000", text, "", 0)
    return _with_any_labels(prompt, settings.classify_written)


async def _classification(settings: RunSettings, pool: _Pool, expanded: int, tally: Tally) -> None:
    """The classifier's calls: the first question of each prompt for sure, the others perhaps."""
    model = settings.roles.classifier
    rehearsal = Rehearsal(model)
    if settings.classify.asks:
        classifier = make_classifier(settings.classify, model, rehearsal.client)
        for prompt in pool.prompts:
            await classifier.probabilities([prompt])
            asked = rehearsal.take()
            loads = [weigh(request, model) for request in asked]
            tally.add("classifier", model, total(loads).or_less(*loads[:1]), first=asked)
    if settings.classify_written.asks:
        each = await _longest_classification(settings, rehearsal)
        tally.add("classifier", model, each.times(expanded).or_less())


async def _longest_classification(settings: RunSettings, rehearsal: Rehearsal) -> Load:
    """The most that labelling one written prompt can take."""
    written, model = settings.classify_written, settings.roles.classifier
    if written.method == "yesno":
        # Which candidates a prompt will get is not known: count the longest questions.
        everything: Classifier = YesNoClassifier(rehearsal.client, None, len(taxonomy().domains))
    else:
        # What a cascade's first method will say of a prompt that is not written yet is not known.
        alone = written.model_copy(update={"cascade": None})
        everything = make_classifier(alone, model, rehearsal.client)
    await everything.probabilities([_longest_prompt(settings).prompt])
    asked = sorted(rehearsal.take(), key=lambda one: -weigh(one, model).input_tokens.high)
    most = written.candidates if written.method == "yesno" else len(asked)
    return total(weigh(request, model) for request in asked[:most])


async def _expansion(settings: RunSettings, pool: _Pool, tally: Tally) -> tuple[int, int]:
    """The expander's calls; returns how many prompts it may add, and how many it may write."""
    expander, held = settings.roles.expander, settings.expand
    if not held.enabled or expander is None:
        return 0, 0
    wanted = wanted_domains(settings)
    base = pool.kept if pool.exact else ()
    orders = plan_round(base, wanted, settings, 0)
    rehearsal = Rehearsal(expander)
    one_round = settings.model_copy(update={"expand": held.model_copy(update={"max_rounds": 1})})
    await expand(base, rehearsal.client, PublishedClassifier(), one_round)
    # Where labels are not known, every prompt there is might fill a domain.
    filled = 0 if pool.exact else len(pool.kept)
    sure = math.ceil((held.target - filled) / held.per_request)
    longest = _Examples(settings, pool)
    for order, request in zip(orders, rehearsal.take(), strict=True):
        load = weigh(request, expander)
        later = load.reading(longest.tokens(order), factor=1)
        if pool.exact:
            high = load + later.times(held.max_rounds - 1)
            tally.add("expander", expander, high.or_less(load), first=[request])
        else:
            high = later.times(held.max_rounds)
            low = [load] if order.number < sure else []
            tally.add("expander", expander, high.or_less(*low))
    have = counts(base)
    added = sum(max(0, held.target - have.get(domain.key, 0)) for domain in wanted)
    return added, len(orders) * held.max_rounds * held.per_request


class _Examples:
    """How much the examples of a later round may weigh: the longest of the domain, or new ones."""

    def __init__(self, settings: RunSettings, pool: _Pool) -> None:
        self._count = settings.expand.examples
        self._new = tokens(quoted(_longest_prompt(settings).prompt.text)).high
        self._by_domain: dict[str, list[float]] = {}
        for one in pool.kept:
            weight = tokens(quoted(one.prompt.text)).high
            for label in one.labels:
                self._by_domain.setdefault(label.key, []).append(weight)

    def tokens(self, order: Order) -> float:
        """The most that the examples for this domain can be."""
        own = self._by_domain.get(order.domain.key, [])
        return sum(sorted([*own, *[self._new] * self._count])[-self._count :])
