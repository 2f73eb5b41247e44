"""Stage I, step 8: 80/10/10 by the hash of the near-duplicate cluster (paper: the splits).

The split of a cluster depends on its name, the seed and the shares, and on nothing else: adding
prompts moves no other cluster. It is assigned before expansion; an expanded prompt inherits the
split of its parents, which are all of one split, and joins their cluster, because a bootstrap over
clusters must move a prompt and its examples together (contract, section 4).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from misalign_bench.config import SplitSettings
from misalign_bench.records import LabelledPrompt, Split


def with_splits(
    labelled: Sequence[LabelledPrompt],
    clusters: Mapping[str, str],
    seed: int,
    settings: SplitSettings,
) -> tuple[LabelledPrompt, ...]:
    """Return the prompts with their cluster and split, in their order.

    Call it on the ingested prompts before expansion, and on all prompts after it: those of the
    first call keep their split, and are joined with the clusters of their children.

    Args:
        labelled: parents before their children.
        clusters: cluster of every ingested prompt, as ``deduplicate`` returns them; a prompt that
            is not in it and has no parents is a cluster of its own.
        seed: the seed of the run.
        settings: the shares.

    Raises:
        ValueError: a prompt has parents in two splits.
    """
    splits: dict[str, Split] = {}
    links: dict[str, str] = {}

    def split_of(prompt_id: str) -> Split:
        return splits.get(prompt_id) or assign(clusters.get(prompt_id, prompt_id), seed, settings)

    for row in labelled:
        prompt = row.prompt
        inherited = {split_of(parent) for parent in prompt.parents}
        if len(inherited) > 1:
            raise ValueError(f"{prompt.id} has parents in the splits {sorted(inherited)}")
        splits[prompt.id] = inherited.pop() if inherited else split_of(prompt.id)
        own = clusters.get(prompt.id, prompt.id)
        for parent in prompt.parents:
            _join(links, own, clusters.get(parent, parent))
    return tuple(
        replace(
            row,
            cluster_id=_root(links, clusters.get(row.prompt.id, row.prompt.id)),
            split=splits[row.prompt.id],
        )
        for row in labelled
    )


def assign(cluster_id: str, seed: int, settings: SplitSettings) -> Split:
    """Return the split of a cluster: the hash of seed and name, as a number in [0, 1).

    >>> assign("p0000000000000000", 0, SplitSettings(train=1, validation=0, test=0))
    'train'
    """
    digest = hashlib.sha256(f"{seed}\0{cluster_id}".encode()).digest()
    place = int.from_bytes(digest[:6], "big") / 2**48
    if place < settings.train:
        return "train"
    if place < settings.train + settings.validation or settings.test == 0:
        return "validation" if settings.validation else "train"
    return "test"


def _join(links: dict[str, str], one: str, other: str) -> None:
    """Join two clusters; the smaller name stands for both."""
    a, b = _root(links, one), _root(links, other)
    if a != b:
        links[max(a, b)] = min(a, b)


def _root(links: Mapping[str, str], cluster: str) -> str:
    while cluster in links:
        cluster = links[cluster]
    return cluster
