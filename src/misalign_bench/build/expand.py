"""Stage I, step 3: expand domains below the target (paper: conditional generation).

Works in barrier rounds (contract, section 1): the requests of a round are fixed from the deficit
table before it starts, and its results are sorted by (domain, request, item) and accepted in one
pass, so the outcome does not depend on which answer came first. A new prompt must read like a
prompt, be classified back into its domain and not duplicate anything kept. Examples come from one
split, which the children inherit with the cluster of their parents.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from misalign_bench.build.classify.classify import Classifier, labelled
from misalign_bench.build.deduplicate import duplicate_index
from misalign_bench.build.expand_answers import Order, objection, read_answers, schema
from misalign_bench.build.policy import barred_domains
from misalign_bench.build.split import assign
from misalign_bench.config import RunSettings
from misalign_bench.errors import UserError
from misalign_bench.llm.client import Client
from misalign_bench.llm.model import Failure, Reply, Request, Sample, Sampling
from misalign_bench.prompts.loader import template
from misalign_bench.records import (
    SPLITS,
    Dropped,
    LabelledPrompt,
    Pending,
    Prompt,
    Reason,
)
from misalign_bench.simhash.index import DuplicateIndex
from misalign_bench.taxonomy.loader import Domain, taxonomy
from misalign_bench.taxonomy.neighbours import neighbours


@dataclass(frozen=True, slots=True)
class Expansion:
    """What expansion added and refused.

    Attributes:
        written: added, and what would have been but for being a near-duplicate.
        unmet: why a domain stayed below its target.
    """

    added: tuple[LabelledPrompt, ...] = ()
    written: tuple[LabelledPrompt, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    pending: tuple[Pending, ...] = ()
    requests: int = 0
    unmet: dict[str, str] = field(default_factory=dict)


async def expand(
    prompts: Sequence[LabelledPrompt],
    expander: Client,
    classifier: Classifier,
    settings: RunSettings,
    settled: Callable[[], None] = lambda: None,
) -> Expansion:
    """Add prompts until every domain has its target or its rounds are spent."""
    wanted = wanted_domains(settings)
    pool = list(prompts)
    index = duplicate_index([one.prompt for one in prompts], settings.deduplicate)
    outcome = Expansion()
    for round_ in range(settings.expand.max_rounds):
        orders = plan_round(pool, wanted, settings, round_)
        if not orders:
            break
        answers = await asyncio.gather(
            *(_ask(expander, order, settings, round_) for order in orders)
        )
        settled()
        found = read_answers(orders, answers, round_, settings.expand.per_request)
        outcome = replace(outcome, requests=outcome.requests + len(orders))
        if found.pending:
            return replace(outcome, pending=(*outcome.pending, *found.pending))
        passed = await _accept(found.fresh, pool, index, classifier, settings)
        pool += passed.added
        outcome = replace(
            outcome,
            added=(*outcome.added, *passed.added),
            written=(*outcome.written, *passed.written),
            dropped=(*outcome.dropped, *found.dropped, *passed.dropped),
            pending=passed.pending,
        )
        if passed.pending:
            return outcome
    return replace(outcome, unmet=_unmet(pool, wanted, outcome.dropped, settings))


def wanted_domains(settings: RunSettings) -> list[Domain]:
    """The domains that expansion works on, in the taxonomy's order.

    Domains that the policy bars are left out: nothing may be drawn for their prompts.

    Raises:
        UserError: ``expand.domains`` names one that is not in the taxonomy.
    """
    if not settings.expand.enabled:
        return []
    bars = barred_domains(settings.policy)
    domains = [domain for domain in taxonomy().domains if domain.key not in bars]
    if settings.expand.domains is None:
        return domains
    keys = {domain.key for domain in taxonomy().domains}
    for key in settings.expand.domains:
        if key not in keys:
            raise UserError(
                f"expand.domains: no domain {key!r}", mend="List them: misalign-bench domains"
            )
    return [domain for domain in domains if domain.key in settings.expand.domains]


def plan_round(
    pool: Sequence[LabelledPrompt], wanted: Sequence[Domain], settings: RunSettings, round_: int
) -> list[Order]:
    """The requests of a round, from what every domain lacks."""
    held = counts(pool)
    orders = []
    for domain in wanted:
        deficit = settings.expand.target - held.get(domain.key, 0)
        for number in range(max(0, math.ceil(deficit / settings.expand.per_request))):
            examples = _examples(domain, pool, settings, round_, number)
            orders.append(Order(domain, number, examples))
    return orders


def counts(pool: Sequence[LabelledPrompt]) -> dict[str, int]:
    """Prompts for each ``dimension/name``."""
    held: dict[str, int] = {}
    for one in pool:
        for label in one.labels:
            held[label.key] = held.get(label.key, 0) + 1
    return held


def _examples(
    domain: Domain,
    pool: Sequence[LabelledPrompt],
    settings: RunSettings,
    round_: int,
    number: int,
) -> tuple[LabelledPrompt, ...]:
    """Seeded examples of the domain, all from one split."""
    chance = random.Random(f"{settings.seed}:{domain.key}:{round_}:{number}")
    own = [one for one in pool if any(label.key == domain.key for label in one.labels)]
    by_split = {split: [one for one in own if one.split == split] for split in SPLITS}
    shares = {"train": settings.split.train, "validation": settings.split.validation}
    shares["test"] = settings.split.test
    splits = [split for split in SPLITS if by_split[split] and shares[split] > 0]
    if not splits:
        return ()
    split = chance.choices(splits, [shares[one] for one in splits])[0]
    return tuple(
        chance.sample(by_split[split], min(settings.expand.examples, len(by_split[split])))
    )


async def _ask(
    expander: Client, order: Order, settings: RunSettings, round_: int
) -> tuple[Reply, str] | Failure:
    count = settings.expand.per_request
    used = template("expand")
    messages = used.render(
        domain=order.domain,
        examples=[one.prompt.text for one in order.examples],
        neighbours=neighbours(order.domain, settings.expand.neighbours),
        count=count,
    )
    chosen = settings.expand.sampling
    request = Request(
        messages,
        Sampling(chosen.temperature, chosen.top_p, chosen.max_tokens),
        Sample("expander", round=round_, index=order.number),
        schema=schema(count),
        template=used.id,
    )
    answered = await expander.ask(request)
    return answered if isinstance(answered, Failure) else (answered.reply, answered.key)


async def _accept(
    fresh: Sequence[tuple[Prompt, Order]],
    pool: Sequence[LabelledPrompt],
    index: DuplicateIndex,
    classifier: Classifier,
    settings: RunSettings,
) -> Expansion:
    """One pass over a round's prompts, in their fixed order."""
    answers = await classifier.probabilities([prompt for prompt, _ in fresh])
    pending = tuple(answer for answer in answers if isinstance(answer, Pending))
    if pending:
        return Expansion(pending=pending)
    added: list[LabelledPrompt] = []
    written: list[LabelledPrompt] = []
    dropped: list[Dropped] = []
    held = counts(pool)
    for (prompt, order), answer in zip(fresh, answers, strict=True):
        read = _classified(prompt, order, answer, settings)
        if isinstance(read, LabelledPrompt) and held.get(order.domain.key, 0) >= (
            settings.expand.target
        ):
            read = Reason.TARGET_REACHED
        if isinstance(read, Reason):
            dropped.append(Dropped(prompt.id, "expand", read, order.domain.key))
            continue
        written.append(read)
        if (match := index.add(prompt.text)) is not None:
            detail = f"{order.domain.key}, distance {match.distance}"
            dropped.append(Dropped(prompt.id, "expand", Reason.NEAR_DUPLICATE, detail))
            continue
        added.append(_placed(read, order, settings))
        for label in read.labels:
            held[label.key] = held.get(label.key, 0) + 1
    return Expansion(tuple(added), tuple(written), tuple(dropped))


def _classified(
    prompt: Prompt,
    order: Order,
    answer: tuple[float, ...] | Pending | Dropped,
    settings: RunSettings,
) -> LabelledPrompt | Reason:
    """The prompt with its labels, or why it does not belong to the domain it was written for."""
    if (reason := objection(prompt, settings)) is not None:
        return reason
    if not isinstance(answer, tuple):
        return answer.reason
    one = labelled(prompt, answer, settings.classify_written.delta)
    held = any(label.key == order.domain.key for label in one.labels)
    return one if held else Reason.OFF_DOMAIN


def _placed(one: LabelledPrompt, order: Order, settings: RunSettings) -> LabelledPrompt:
    """The child in its parents' split; without parents, in that of its own hash."""
    if order.examples:
        return replace(one, split=order.examples[0].split)
    return replace(one, split=assign(one.prompt.id, settings.seed, settings.split))


def _unmet(
    pool: Sequence[LabelledPrompt],
    wanted: Sequence[Domain],
    dropped: Sequence[Dropped],
    settings: RunSettings,
) -> dict[str, str]:
    """For every domain below its target, how far it came and what was refused."""
    held, target = counts(pool), settings.expand.target
    unmet = {
        domain.key: f"{held.get(domain.key, 0)} of {target} after "
        f"{settings.expand.max_rounds} rounds; {_refused(domain, dropped)}"
        for domain in wanted
        if held.get(domain.key, 0) < target
    }
    named = set(settings.expand.domains or ()) & barred_domains(settings.policy)
    return unmet | dict.fromkeys(sorted(named), "the policy bars it")


def _refused(domain: Domain, dropped: Sequence[Dropped]) -> str:
    reasons = Counter(
        row.reason.value
        for row in dropped
        if row.id.startswith(f"expand:{domain.key}:")
        or row.detail.partition(", distance")[0] == domain.key
    )
    said = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    return f"refused: {said}" if said else "nothing was refused"
