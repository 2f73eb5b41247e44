"""A stratified random sample of the responses that an evaluator judged, for people to label.

Two strata: ``accepted``, the responses in the data set, and ``rejected``, every other response that
was judged. In a stratum each response is as likely as any other, so its inclusion probability is
sampled / population and its weight, that probability's inverse, is how many responses it stands for
(Horvitz and Thompson 1952, JASA 47:663-685); the weights add up to the population. All choices are
hashes of the seed and the draw's journal key: the same run and seed give the same sample, and the
order and the names of the sampled responses tell nothing of their stratum.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from misalign_bench.build.judged_draws import JudgedDraw
from misalign_bench.errors import UserError

Stratum = Literal["accepted", "rejected"]
STRATA: tuple[Stratum, ...] = ("accepted", "rejected")

_NAME_LENGTH = 12


@dataclass(frozen=True, slots=True)
class Sampled:
    """A sampled response under the name that the annotators see.

    Attributes:
        weight: how many responses of its stratum it stands for.
    """

    id: str
    stratum: Stratum
    weight: float
    draw: JudgedDraw


@dataclass(frozen=True, slots=True)
class Sample:
    """What is to be labelled, in the order in which it is shown.

    Attributes:
        audit: names this very sample; labels carry it.
        population: responses in each stratum.
    """

    audit: str
    seed: int
    population: Mapping[Stratum, int]
    items: tuple[Sampled, ...]


def draw_sample(
    draws: Sequence[JudgedDraw], size: int, seed: int, accepted_share: float = 0.5
) -> Sample:
    """Draw a sample.

    Args:
        draws: the population.
        size: how many to draw; all of them if there are fewer.
        seed: of the choice, the names and the order.
        accepted_share: share of the sample that is spent on the data set, as far as both strata
            reach; what one cannot fill goes to the other.

    Raises:
        UserError: nothing to draw from, or an impossible size or share.
    """
    if size < 1 or not 0 <= accepted_share <= 1:
        raise UserError(
            f"a sample of {size} with share {accepted_share:g} cannot be drawn",
            mend="Give --n of 1 or more and --accepted-share from 0 to 1",
        )
    if not draws:
        raise UserError("the run holds no response that its evaluator judged")
    strata: dict[Stratum, list[JudgedDraw]] = {
        "accepted": [draw for draw in draws if draw.accepted],
        "rejected": [draw for draw in draws if not draw.accepted],
    }
    population = {name: len(held) for name, held in strata.items()}
    sizes = allocate(population, size, accepted_share)
    items = [
        Sampled(
            "r" + _digest(seed, "name", draw)[:_NAME_LENGTH], name, population[name] / number, draw
        )
        for name, number in sizes.items()
        for draw in sorted(strata[name], key=lambda one: _digest(seed, "choice", one))[:number]
    ]
    items.sort(key=lambda one: _digest(seed, "order", one.draw))
    names = "\n".join(one.id for one in items)
    # The letters keep a spreadsheet from reading a name as a number.
    audit = "a" + hashlib.sha256(f"{seed}\n{size}\n{names}".encode()).hexdigest()[:16]
    return Sample(audit, seed, population, tuple(items))


def allocate(
    population: Mapping[Stratum, int], size: int, accepted_share: float
) -> dict[Stratum, int]:
    """How many to draw from each stratum.

    >>> allocate({"accepted": 1000, "rejected": 300}, 200, 0.5)
    {'accepted': 100, 'rejected': 100}
    >>> allocate({"accepted": 1000, "rejected": 30}, 200, 0.5)
    {'accepted': 170, 'rejected': 30}
    """
    total = min(size, sum(population.values()))
    accepted = min(population["accepted"], round(total * accepted_share))
    rejected = min(population["rejected"], total - accepted)
    return {"accepted": min(population["accepted"], total - rejected), "rejected": rejected}


def _digest(seed: int, purpose: str, draw: JudgedDraw) -> str:
    return hashlib.sha256(f"{seed}\0{purpose}\0{draw.key}".encode()).hexdigest()
