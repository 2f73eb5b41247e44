"""Stage I, step 3: near-duplicate prompts are dropped, and clusters named (paper: SimHash, tau 10).

Keep-first in the order of the prompts. The clusters are the connected components over *all*
prompts, the dropped ones included: two kept prompts that a dropped one links belong together, or
the split would part a chain of near-duplicates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from misalign_bench.config import DeduplicateSettings
from misalign_bench.errors import UserError
from misalign_bench.records import Dropped, Prompt, Reason

if TYPE_CHECKING:
    from misalign_bench.simhash.index import DuplicateIndex

STAGE = "deduplicate"


class RuleArguments(TypedDict):
    """The duplicate rule as ``simhash`` takes it."""

    tau: int
    verify: float | None
    short_words: int


@dataclass(frozen=True, slots=True)
class Deduplicated:
    """What was kept and dropped.

    Attributes:
        kept: the kept prompts, in their order.
        dropped: the others, each with the kept prompt it duplicates, distance and Jaccard.
        clusters: for every prompt, kept or not, the smallest prompt id of its cluster.
    """

    kept: tuple[Prompt, ...]
    dropped: tuple[Dropped, ...]
    clusters: Mapping[str, str]


def deduplicate(
    prompts: Sequence[Prompt],
    settings: DeduplicateSettings,
    among: Sequence[Prompt] | None = None,
) -> Deduplicated:
    """Keep the first of each group of near-duplicates, and name the cluster of every prompt.

    Args:
        prompts: those that may be kept; a prompt that was dropped before must not displace one.
        settings: the rule.
        among: every prompt that links others into clusters (default: ``prompts``).

    Raises:
        UserError: the threshold is so loose that the pairs do not fit in memory.
    """
    from misalign_bench.simhash.clusters import keep_first

    clusters = cluster_ids(prompts if among is None else among, settings)
    try:
        done = keep_first([prompt.text for prompt in prompts], **rule_arguments(settings))
    except ValueError as error:
        raise UserError(str(error), where="deduplicate") from None
    dropped = tuple(
        Dropped(
            prompts[drop.index].id,
            STAGE,
            Reason.NEAR_DUPLICATE,
            f"of {prompts[drop.of].id}, distance {drop.distance}, jaccard {drop.jaccard:.3f}",
        )
        for drop in done.dropped
    )
    return Deduplicated(tuple(prompts[index] for index in done.kept), dropped, clusters)


def cluster_ids(prompts: Sequence[Prompt], settings: DeduplicateSettings) -> dict[str, str]:
    """Return for every prompt the smallest id among those a chain of duplicates links it to."""
    from misalign_bench.simhash.clusters import components

    try:
        found = components([prompt.text for prompt in prompts], **rule_arguments(settings))
    except ValueError as error:
        raise UserError(str(error), where="deduplicate") from None
    names: dict[int, str] = {}
    for prompt, component in zip(prompts, found.tolist(), strict=True):
        names[component] = min(prompt.id, names.get(component, prompt.id))
    return {
        prompt.id: names[component]
        for prompt, component in zip(prompts, found.tolist(), strict=True)
    }


def duplicate_index(prompts: Sequence[Prompt], settings: DeduplicateSettings) -> DuplicateIndex:
    """Return an index under the same rule that holds these prompts, for those that come later."""
    from misalign_bench.simhash.index import DuplicateIndex

    index = DuplicateIndex(**rule_arguments(settings))
    index.add_all([prompt.text for prompt in prompts])
    return index


def rule_arguments(settings: DeduplicateSettings) -> RuleArguments:
    """Return the rule of these settings.

    Without verification it is the paper's: the codes decide for short texts too. With it, texts
    under eight words are duplicates only if they are equal once normalised (``simhash.rule``).
    """
    from misalign_bench.simhash.rule import SHORT_WORDS

    short_words = 0 if settings.verify is None else SHORT_WORDS
    return {"tau": settings.tau, "verify": settings.verify, "short_words": short_words}
