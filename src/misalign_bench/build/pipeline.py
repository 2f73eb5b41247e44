"""Stage I from prompts to SaVaCu: the nine steps in their order, on one screen.

Everything but the models is a pure, seeded function of the configuration and the journal, so
running again resumes: what is answered is replayed, what is not is asked. A row whose call has no
answer is pending; the others are finished, nothing final is written, and the run is resumable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from misalign_bench.build.classify.classify import Classifier, classify, make_classifier
from misalign_bench.build.deduplicate import deduplicate
from misalign_bench.build.diversity import DomainDiversity, Embed, diversity_by_domain
from misalign_bench.build.expand import Expansion, expand, wanted_domains
from misalign_bench.build.ingest import Ingested, ingest
from misalign_bench.build.policy import barred
from misalign_bench.build.resample import Outcome, make_pairs
from misalign_bench.build.roles import Clients, refuse_shared
from misalign_bench.build.screen import Relevance
from misalign_bench.build.split import with_splits
from misalign_bench.build.statistics_table import Ledger
from misalign_bench.config import ClassifySettings, RunSettings
from misalign_bench.config_model import ModelSettings
from misalign_bench.errors import OutsideWorld
from misalign_bench.judge.bind import bind_judge
from misalign_bench.judge.calibration import Calibration
from misalign_bench.judge.consistency import Asked, Consistency, consistency, sample
from misalign_bench.judge.judge import Judge
from misalign_bench.llm.client import Client
from misalign_bench.records import Dropped, LabelledPrompt, Pair, Pending


class Watch(Protocol):
    """What a run tells whoever watches it."""

    def stage(self, name: str, total: int | None = None) -> AbstractContextManager[WatchedStage]:
        """A stage that goes on while the block runs."""

    def line(self, text: str) -> None:
        """One line of news."""


class WatchedStage(Protocol):
    """A stage under way."""

    def advance(self, n: int = 1, spend: float = 0.0, note: str = "") -> None:
        """Count ``n`` more as done."""


Counted = Callable[[str, Mapping[str, int]], None]
"""Told of a stage's name and counts when it ends; the run folder's manifest keeps them."""


class Unfinished(OutsideWorld):
    """Rows are pending: their calls have no answer yet."""

    def __init__(self, pending: Sequence[Pending]) -> None:
        first = pending[0]
        super().__init__(
            f"{len(pending)} rows have no answer yet (the first: {first.stage} of {first.id}: "
            f"{first.detail})",
            mend="Run the same command again to continue, or add --accept-failures.",
        )


@dataclass(frozen=True, slots=True)
class Built:
    """What Stage I made, before it is written."""

    pairs: tuple[Pair, ...]
    dropped: tuple[Dropped, ...]
    outcomes: tuple[Outcome, ...]
    ledger: Ledger
    shared_roles: bool
    simulated: bool
    weights: Mapping[str, str]
    classifier: Mapping[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None
    consistency: Consistency | None = None
    unmet: Mapping[str, str] = field(default_factory=dict)
    diversity: tuple[DomainDiversity, ...] = ()


async def build(settings: RunSettings, clients: Clients, watch: Watch, counted: Counted) -> Built:
    """Run Stage I up to the pairs.

    Raises:
        UserError: bad input or configuration.
        OutsideWorld: pending rows, a server that cannot be reached, a spent budget.
    """
    shared = check_roles(settings, clients)
    wanted_domains(settings)
    ingested = _ingest(settings, watch, counted)
    classifier = _classifier(settings.classify, settings, clients)
    labelled, no_label = await _classify(ingested, classifier, settings, watch, counted)
    kept, clusters, duplicates = _deduplicate(ingested, labelled, settings, counted)
    expansion = await _expand(kept, clients, settings, watch, counted)
    pool = with_splits([*kept, *expansion.added], clusters, settings.seed, settings.split)
    allowed, refused = _apply_policy(pool, settings, counted)
    evaluator, calibration = await _evaluator(clients, settings, watch)
    outcomes = await _pairs(allowed, evaluator, clients, settings, watch)
    swapped = await _consistency(outcomes, evaluator, settings, watch)
    pairs = [one.result for one in outcomes if isinstance(one.result, Pair)]
    unpaired = [one.result for one in outcomes if isinstance(one.result, Dropped)]
    rejected = [row for one in outcomes for row in one.rejected]
    counted(
        "pairs", {"accepted": len(pairs), "dropped": len(unpaired), "draws_rejected": len(rejected)}
    )
    drops = (ingested.dropped, no_label, duplicates, expansion.dropped, refused, unpaired)
    generated = frozenset(one.prompt.id for one in allowed)
    return Built(
        pairs=tuple(pairs),
        dropped=tuple(row for rows in drops for row in rows),
        outcomes=tuple(outcomes),
        ledger=Ledger(labelled, expansion.written, generated, rejected),
        shared_roles=shared,
        simulated=any(client.model.simulated for client in _bound(settings, clients)),
        weights={one.model.name: one.model.weights for one in _bound(settings, clients)},
        classifier=classifier.describe(),
        calibration=calibration,
        consistency=swapped,
        unmet=expansion.unmet,
        diversity=diversity_by_domain(
            [*kept, *expansion.added], _embed(settings) if expansion.added else None, settings.seed
        ),
    )


def _classifier(classify: ClassifySettings, settings: RunSettings, clients: Clients) -> Classifier:
    role = settings.roles.classifier
    return make_classifier(classify, role, clients.of(role) if classify.asks else None)


def check_roles(settings: RunSettings, clients: Clients) -> bool:
    """Bind every model and refuse shared roles; True if they are shared and that is allowed.

    Raises:
        UserError: as ``refuse_shared``.
    """
    models = {held: clients.of(held).model for held in bound_models(settings)}
    return refuse_shared(settings, models)


def bound_models(settings: RunSettings) -> list[ModelSettings]:
    """The models of Stage I that answer through a client, each once."""
    roles = settings.roles
    held = [*roles.generators, roles.evaluator]
    if settings.expand.enabled and roles.expander is not None:
        held.append(roles.expander)
    if any(one.asks for one in settings.labelling):
        held.append(roles.classifier)
    return list(dict.fromkeys(held))


def _bound(settings: RunSettings, clients: Clients) -> list[Client]:
    return [clients.of(model) for model in bound_models(settings)]


def _ingest(settings: RunSettings, watch: Watch, counted: Counted) -> Ingested:
    ingested = ingest(settings.source)
    counted("ingest", {"rows": ingested.rows, "kept": len(ingested.prompts)})
    watch.line(f"ingest: {len(ingested.prompts)} prompts of {ingested.rows} rows")
    return ingested


async def _classify(
    ingested: Ingested,
    classifier: Classifier,
    settings: RunSettings,
    watch: Watch,
    counted: Counted,
) -> tuple[list[LabelledPrompt], list[Dropped]]:
    with watch.stage("classify", len(ingested.prompts)) as stage:
        labelled, dropped, pending = await classify(
            ingested.prompts, classifier, settings.classify.delta
        )
        stage.advance(len(ingested.prompts))
    _refuse_pending(pending)
    labels = sum(len(one.labels) for one in labelled)
    counted("classify", {"labelled": len(labelled), "labels": labels, "no_domain": len(dropped)})
    watch.line(f"classify: {labels} labels on {len(labelled)} prompts, {len(dropped)} without any")
    return labelled, dropped


def _deduplicate(
    ingested: Ingested,
    labelled: Sequence[LabelledPrompt],
    settings: RunSettings,
    counted: Counted,
) -> tuple[list[LabelledPrompt], Mapping[str, str], Sequence[Dropped]]:
    """Keep the first of near-duplicates, and name clusters and splits over all that was read."""
    prompts = [one.prompt for one in labelled]
    found = deduplicate(prompts, settings.deduplicate, among=ingested.prompts)
    kept = {prompt.id for prompt in found.kept}
    held = [one for one in labelled if one.prompt.id in kept]
    dropped = found.dropped
    counted("deduplicate", {"kept": len(held), "dropped": len(dropped)})
    return (
        list(with_splits(held, found.clusters, settings.seed, settings.split)),
        (found.clusters),
        dropped,
    )


async def _expand(
    kept: Sequence[LabelledPrompt],
    clients: Clients,
    settings: RunSettings,
    watch: Watch,
    counted: Counted,
) -> Expansion:
    if not settings.expand.enabled or settings.roles.expander is None:
        return Expansion()
    with watch.stage("expand", settings.expand.max_rounds) as stage:
        expander = clients.of(settings.roles.expander)
        classifier = _classifier(settings.classify_written, settings, clients)
        found = await expand(kept, expander, classifier, settings, stage.advance)
    _refuse_pending(found.pending)
    counts = {"requests": found.requests, "added": len(found.added), "refused": len(found.dropped)}
    counted("expand", counts | {"domains_below_target": len(found.unmet)})
    watch.line(f"expand: {len(found.added)} prompts added, {len(found.dropped)} refused")
    return found


def _apply_policy(
    pool: Sequence[LabelledPrompt], settings: RunSettings, counted: Counted
) -> tuple[list[LabelledPrompt], list[Dropped]]:
    allowed, refused = [], []
    for one in pool:
        bar = barred(one, settings.policy)
        if bar is None:
            allowed.append(one)
        else:
            refused.append(bar)
    counted("policy", {"allowed": len(allowed), "barred": len(refused)})
    return allowed, refused


async def _evaluator(
    clients: Clients, settings: RunSettings, watch: Watch
) -> tuple[Judge, Calibration | None]:
    with watch.stage("calibrate the evaluator") as stage:
        client = clients.of(settings.roles.evaluator)
        bound = await bind_judge(client, settings.judge, "evaluator", stage.advance)
    if isinstance(bound, Pending):
        raise Unfinished([bound])
    return bound


async def _pairs(
    allowed: Sequence[LabelledPrompt],
    evaluator: Judge,
    clients: Clients,
    settings: RunSettings,
    watch: Watch,
) -> list[Outcome]:
    work = [
        (one, clients.of(generator))
        for one in allowed
        for generator in generators_of(one, settings)
    ]
    relevance = _relevance(settings)
    tally = {"pair": 0, "dropped": 0, "pending": 0}
    with watch.stage("pairs", len(work)) as stage:

        def settled(outcome: Outcome) -> None:
            result = outcome.result
            kind = "pair" if isinstance(result, Pair) else type(result).__name__.lower()
            tally[kind] += 1
            stage.advance(1, note=f"{tally['pair']} accepted")

        outcomes = await make_pairs(work, evaluator, settings, relevance, settled)
    _refuse_pending([one.result for one in outcomes if isinstance(one.result, Pending)])
    watch.line(f"pairs: {tally['pair']} accepted, {tally['dropped']} dropped of {len(work)}")
    return outcomes


async def _consistency(
    outcomes: Sequence[Outcome], evaluator: Judge, settings: RunSettings, watch: Watch
) -> Consistency | None:
    """Ask for a sample of the verdicts again, one a cluster, with the options' order swapped."""
    judged = []
    for outcome in outcomes:
        prompt = outcome.labelled.prompt
        group = outcome.labelled.cluster_id or prompt.id
        drawn = [one.candidate for one in outcome.accepted]
        drawn += [one.candidate for one in outcome.rejected if one.verdict is not None]
        judged += [Asked(one.journal_key, prompt.text, one.text, group) for one in drawn]
    chosen = sample(judged, settings.respond.consistency_sample, settings.seed)
    if not chosen:
        return None
    with watch.stage("consistency", len(chosen)) as stage:
        found = await consistency(evaluator, chosen, stage.advance)
    if isinstance(found, Pending):
        raise Unfinished([found])
    return found


def generators_of(labelled: LabelledPrompt, settings: RunSettings) -> list[ModelSettings]:
    """The generators that answer a prompt: all, or so many in turn by the prompt's hash."""
    pool = list(settings.roles.generators)
    wanted = settings.respond.generators_per_prompt
    if wanted is None or wanted >= len(pool):
        return pool
    first = int(labelled.prompt.id[-8:], 16) % len(pool)
    return [pool[(first + step) % len(pool)] for step in range(wanted)]


def _relevance(settings: RunSettings) -> Relevance | None:
    """Whether a response is about its prompt, where an embedding model runs anyway."""
    embed = _embed(settings)
    if embed is None:
        return None

    def relevance(prompt: str, response: str) -> float:
        one, other = embed([prompt, response])
        return float(one @ other)

    return relevance


def _embed(settings: RunSettings) -> Embed | None:
    """The embedding model, where one runs anyway."""
    if all(one.method != "embedding" for one in settings.labelling):
        return None
    from misalign_bench.llm.embedding import load_embedder

    return load_embedder(settings.roles.classifier.model).embed


def _refuse_pending(pending: Sequence[Pending]) -> None:
    if pending:
        raise Unfinished(pending)
