"""Which domains are easily taken for another: its neighbours, told apart in an instruction."""

from __future__ import annotations

import functools
import re

from misalign_bench.taxonomy.loader import Domain, taxonomy

_WORD = re.compile(r"[a-z]{4,}")


@functools.cache
def neighbours(domain: Domain, count: int) -> tuple[Domain, ...]:
    """The domains of the same dimension that share most words with this one.

    Shared words of name and definition are counted by rarity in the dimension (inverse document
    frequency); domains of the same group come first among equals, then the taxonomy's order.

    >>> health = next(one for one in taxonomy().domains if one.key == "value/Health")
    >>> len(neighbours(health, 3)), health in neighbours(health, 3)
    (3, False)
    """
    others = [
        one
        for one in taxonomy().domains
        if one.dimension == domain.dimension and one.key != domain.key
    ]
    documents = [_words(one) for one in (domain, *others)]
    own = documents[0]

    def closeness(other: Domain) -> tuple[float, bool]:
        shared = own & _words(other)
        rarity = sum(1 / sum(word in document for document in documents) for word in shared)
        return rarity, domain.group is not None and other.group == domain.group

    return tuple(sorted(others, key=closeness, reverse=True)[:count])


def _words(domain: Domain) -> frozenset[str]:
    return frozenset(_WORD.findall(f"{domain.name} {domain.definition}".lower()))
