"""How varied the prompts are that expansion added, domain by domain.

Three measures, each beside the same measure of as many prompts that came with the source, because
all three depend on how many texts there are:

- distinct-n: share of word n-grams that are different (Li et al. 2016, arXiv 1510.03055);
- mean pairwise distance: one minus the mean cosine between two prompts' embeddings;
- template families: share of prompts that share a form with another of the domain, where the form
  is the first three words, or the skeleton that is left when all but function words are masked.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from misalign_bench.records import LabelledPrompt

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Vectors = npt.NDArray[np.float32]

Embed = Callable[[Sequence[str]], "Vectors"]
"""Texts to unit vectors, one row each."""

OPENING_WORDS = 3
GAP = "_"

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_FUNCTION = """
a about after all am an and any are as at be because been before between both but by can cannot
could did do does for from had has have he her him his how i if in into is it its may me might
my no not of on or our out over shall she should so some than that the their them then there
these they this those to under up us was we were what when where which while who whom whose why
will with would you your
"""
_FUNCTION_WORDS = frozenset(_FUNCTION.split())


@dataclass(frozen=True, slots=True)
class Diversity:
    """The measures of one set of prompts.

    Attributes:
        prompts: how many.
        distinct_1, distinct_2: share of different words and word pairs; None without any.
        distance: mean pairwise distance in [0, 2]; None without an embedder or with one prompt.
        same_opening, same_skeleton: share of prompts that share it with another.
        largest_family: prompts with the commonest skeleton.
    """

    prompts: int
    distinct_1: float | None
    distinct_2: float | None
    distance: float | None
    same_opening: float
    same_skeleton: float
    largest_family: int


@dataclass(frozen=True, slots=True)
class DomainDiversity:
    """What was added to a domain, and as many (or all) of the prompts that it had before."""

    domain: str
    added: Diversity
    before: Diversity | None

    def as_table(self) -> dict[str, Any]:
        """For JSON and the card."""
        before = asdict(self.before) if self.before else None
        return {"domain": self.domain, "added": asdict(self.added), "before": before}


def diversity_by_domain(
    prompts: Iterable[LabelledPrompt], embed: Embed | None = None, seed: int = 0
) -> tuple[DomainDiversity, ...]:
    """Measure what was written for each domain, in the order of first appearance.

    Args:
        prompts: those that came with the source and those that were added.
        embed: the embedding model, where one runs anyway.
        seed: of the prompts that the added ones are compared with.
    """
    held = list(prompts)
    added: dict[str, list[str]] = {}
    for one in held:
        if one.prompt.expanded_for:
            added.setdefault(one.prompt.expanded_for, []).append(one.prompt.text)
    found = []
    for domain, texts in added.items():
        own = _own(held, domain)
        chosen = random.Random(f"{seed}:diversity:{domain}").sample(own, min(len(own), len(texts)))
        before = diversity(chosen, embed) if chosen else None
        found.append(DomainDiversity(domain, diversity(texts, embed), before))
    return tuple(found)


def diversity(texts: Sequence[str], embed: Embed | None = None) -> Diversity:
    """Measure one set of prompts."""
    families = Counter(map(skeleton, texts))
    return Diversity(
        prompts=len(texts),
        distinct_1=distinct(texts, 1),
        distinct_2=distinct(texts, 2),
        distance=mean_distance(embed(texts)) if embed is not None and len(texts) > 1 else None,
        same_opening=in_families(map(opening, texts)),
        same_skeleton=in_families(map(skeleton, texts)),
        largest_family=max(families.values(), default=0),
    )


def distinct(texts: Iterable[str], n: int) -> float | None:
    """Share of word n-grams that are different, over all texts together; None without any.

    >>> distinct(["Is it so?", "Is it true?"], 1), distinct(["Is it so?", "Is it true?"], 2)
    (0.6666666666666666, 0.75)
    """
    grams: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        words = _words(text)
        grams.update(zip(*(words[start:] for start in range(n)), strict=False))
    return len(grams) / grams.total() if grams else None


def mean_distance(vectors: Vectors) -> float | None:
    """One minus the mean cosine over all pairs of rows, which are unit vectors; None under two."""
    rows = len(vectors)
    if rows < 2:
        return None
    # The sum over all pairs is in the length of the sum of the rows: no matrix of pairs is needed.
    summed = vectors.astype("float64").sum(axis=0)
    own = float((vectors.astype("float64") ** 2).sum())
    return 1 - (float(summed @ summed) - own) / (rows * (rows - 1))


def in_families(forms: Iterable[Hashable]) -> float:
    """Share of members whose form another member has too.

    >>> in_families(["a", "b", "a", "c"])
    0.5
    """
    counts = Counter(forms)
    shared = sum(count for count in counts.values() if count > 1)
    return shared / counts.total() if counts else 0.0


def opening(text: str) -> str:
    """The first three words, in lower case.

    >>> opening("How do I: tell her?")
    'how do i'
    """
    return " ".join(_words(text)[:OPENING_WORDS])


def skeleton(text: str) -> str:
    """The function words in their order, with one gap for whatever stands between them.

    >>> skeleton("How do I tell my old neighbour about the noise?")
    'how do i _ my _ about the _'
    """
    kept: list[str] = []
    for word in _words(text):
        part = word if word in _FUNCTION_WORDS else GAP
        if part != GAP or kept[-1:] != [GAP]:
            kept.append(part)
    return " ".join(kept)


def _own(held: Sequence[LabelledPrompt], domain: str) -> list[str]:
    """The domain's prompts that came with the source."""
    return [
        one.prompt.text
        for one in held
        if not one.prompt.expanded_for and any(label.key == domain for label in one.labels)
    ]


def _words(text: str) -> list[str]:
    words: list[str] = _WORD.findall(text.lower().replace("\u2019", "'"))
    return words
