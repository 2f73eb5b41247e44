"""The taxonomy: 14 safety, 56 value and 41 culture domains, and the catch-all of culture.

The paper counts 112 domains: BeaverTails' harm categories (Ji et al. 2023), the items of the
Schwartz Value Survey as ValueActionLens names them (Shen et al. 2025), and domains of the 2009
UNESCO Framework for Cultural Statistics. The 112th is culture's catch-all, which is never a label
(contract, section 2). Names, definitions and sources stand in ``domains.yaml``.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import yaml

from misalign_bench.records import DIMENSIONS, Dimension

COUNTS: Mapping[Dimension, int] = {"safety": 14, "value": 56, "culture": 41}
SOURCES: Mapping[Dimension, str] = {
    "safety": "beavertails",
    "value": "schwartz_value_survey",
    "culture": "ufcs_2009",
}
GROUPS: Mapping[Dimension, tuple[str | None, ...]] = {
    "safety": (None,),
    "value": (
        "Achievement",
        "Power",
        "Security",
        "Conformity",
        "Tradition",
        "Self-direction",
        "Stimulation",
        "Hedonism",
        "Universalism",
        "Benevolence",
    ),
    "culture": (
        "A Cultural and Natural Heritage",
        "B Performance and Celebration",
        "C Visual Arts and Crafts",
        "D Books and Press",
        "E Audio-visual and Interactive Media",
        "F Design and Creative Services",
        "Intangible Cultural Heritage",
    ),
}


@cache
def taxonomy() -> Taxonomy:
    """Return the taxonomy that the package ships, read and checked once a process.

    >>> [len(taxonomy().of(dimension)) for dimension in ("safety", "value", "culture")]
    [14, 56, 41]
    """
    packaged = resources.files("misalign_bench.taxonomy").joinpath("domains.yaml")
    return read(packaged.read_text(encoding="utf-8"))


def read(text: str) -> Taxonomy:
    """Build a taxonomy from the text of a ``domains.yaml`` and check it.

    Raises:
        ValueError: a count, a key, a group or a definition is not as it must be.
    """
    # libyaml reads the file in a tenth of the time; not every installation has it.
    rows = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    everything = [_domain(row) for row in rows]
    named = tuple(domain for domain in everything if not domain.catch_all)
    rest = [domain for domain in everything if domain.catch_all]
    if objections := _objections(named, rest):
        raise ValueError("domains.yaml: " + "; ".join(objections))
    return Taxonomy(named, rest[0])


@dataclass(frozen=True, slots=True)
class Domain:
    """One domain. ``group`` is a motivational type (value), a UFCS domain (culture) or None.

    ``definition`` tells what a prompt in the domain is about and, after "Out:", what is not.
    """

    name: str
    dimension: Dimension
    group: str | None
    definition: str
    aliases: tuple[str, ...]
    source: str
    catch_all: bool = False

    @property
    def key(self) -> str:
        """``dimension/name``, the form used in files."""
        return f"{self.dimension}/{self.name}"


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """The named domains in their fixed order, and the catch-all that only fills a place.

    ``digest`` is the SHA-256 of all fields of all domains; it names the taxonomy in results.
    """

    domains: tuple[Domain, ...]
    catch_all: Domain
    digest: str = field(init=False)
    _positions: Mapping[str, int] = field(init=False, repr=False, compare=False)
    _names: Mapping[tuple[Dimension, str], Domain] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        positions = {domain.key: index for index, domain in enumerate(self.domains)}
        names = {
            (domain.dimension, _folded(name)): domain
            for domain in self.domains
            for name in (domain.name, *domain.aliases)
        }
        object.__setattr__(self, "digest", _digest((*self.domains, self.catch_all)))
        object.__setattr__(self, "_positions", positions)
        object.__setattr__(self, "_names", names)

    def of(self, dimension: Dimension) -> tuple[Domain, ...]:
        """Return the named domains of one dimension, in order."""
        return tuple(domain for domain in self.domains if domain.dimension == dimension)

    def index(self, key: str) -> int:
        """Return the place of ``dimension/name`` in ``domains``.

        Raises:
            KeyError: no named domain has this key.

        >>> taxonomy().index("value/Ambitious")
        14
        """
        return self._positions[key]

    def get(self, dimension: Dimension, name_or_alias: str) -> Domain | None:
        """Find a named domain by its name or its name in the source, whatever the case.

        The catch-all is not found: ``None`` and ``Unknown`` in published data are no labels.

        >>> taxonomy().get("safety", "self_harm").name
        'Self-harm'
        >>> taxonomy().get("culture", "Unknown")
        """
        return self._names.get((dimension, _folded(name_or_alias)))


def _domain(row: Mapping[str, Any]) -> Domain:
    missing_or_strange = set(row) ^ {
        *("name", "dimension", "group", "definition", "aliases", "source"),
        *(("catch_all",) if "catch_all" in row else ()),
    }
    if missing_or_strange:
        raise ValueError(f"domains.yaml: fields of {row.get('name')!r}: {missing_or_strange}")
    return Domain(**{**row, "aliases": tuple(row["aliases"])})


def _objections(named: tuple[Domain, ...], rest: list[Domain]) -> list[str]:
    found = []
    counts = Counter(domain.dimension for domain in named)
    if counts != COUNTS:
        found.append(f"counts are {dict(counts)}, not {dict(COUNTS)}")
    if [domain.key for domain in rest] != ["culture/unknown"]:
        found.append("the one catch-all must be culture/unknown")
    places = [DIMENSIONS.index(domain.dimension) for domain in named if domain.dimension in COUNTS]
    if places != sorted(places):
        found.append("dimensions are not in their fixed order")
    everything = (*named, *rest)
    spoken_for = Counter(
        (domain.dimension, name)
        for domain in everything
        for name in {_folded(name) for name in (domain.name, *domain.aliases)}
    )
    found += [f"{place} names two domains" for place, n in spoken_for.items() if n > 1]
    for domain in everything:
        if not domain.definition.strip():
            found.append(f"{domain.key} has no definition")
        if domain.source != SOURCES.get(domain.dimension):
            found.append(f"{domain.key} has the source {domain.source!r}")
    for domain in named:
        if domain.group not in GROUPS.get(domain.dimension, ()):
            found.append(f"{domain.key} has the group {domain.group!r}")
    return found


def _folded(name: str) -> str:
    return name.strip().casefold()


def _digest(domains: tuple[Domain, ...]) -> str:
    canonical = json.dumps(
        [asdict(domain) for domain in domains],
        ensure_ascii=False,
        sort_keys=True,
        separators=(",", ":"),
    )
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()
