"""Rejection sampling with known truth: the build's own steps over simulated models.

A generator obeys at a known rate and marks what it really wrote; an evaluator errs at known rates
(``simulated/judge?graded=1``: equal-variance normal evidence, so that a score tells more than its
verdict). ``build.resample.make_pairs`` draws, screens and resamples as in a build, through real
clients over a journal in memory. What is counted: every call, and what each accepted response
truly is. Cells that differ only in how draws are accepted share their draws, so they compare pair
by pair.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, cast

from misalign_bench.build.resample import Outcome, make_pairs
from misalign_bench.config import RunSettings
from misalign_bench.config_file import parse
from misalign_bench.config_model import ModelSettings
from misalign_bench.journal.store import Attempt, Entry, Journal
from misalign_bench.judge.judge import make_judge
from misalign_bench.llm.budget import Budget
from misalign_bench.llm.calls import Call
from misalign_bench.llm.client import Client
from misalign_bench.llm.providers import make_model
from misalign_bench.records import Accepted, Label, LabelledPrompt, Pair, Prompt

Z = 1.959963984540054
WORDS = 24
"""Short answers: what a simulated generator says beside its mark is of no use here."""

_PLACES = ("ferry", "market", "library", "orchard", "bridge", "theatre", "harbour", "vineyard")


@dataclass(frozen=True, slots=True)
class Cell:
    """One setting of the simulation.

    Attributes:
        sensitivity, specificity: of the evaluator, for a response as a whole.
        obey: chance that a draw is what it was asked to be, the same in every round.
        please: chance that a draw after feedback that is not looks as if it were.
        accept, draws, rounds: as in a configuration (``respond``).
    """

    sensitivity: float = 1.0
    specificity: float = 1.0
    obey: float = 0.7
    please: float = 0.0
    accept: Literal["first", "all"] = "first"
    draws: int = 3
    rounds: int = 0

    @property
    def generator(self) -> str:
        """The generator's model string."""
        return f"simulated/generator?obey={self.obey}&please={self.please}"

    @property
    def evaluator(self) -> str:
        """The evaluator's model string."""
        rates = f"sensitivity={self.sensitivity}&specificity={self.specificity}"
        return f"simulated/judge?{rates}&graded=1"


@dataclass(slots=True)
class Seen:
    """What one cell took and gave.

    Attributes:
        draws: the generator's calls; verdicts: the evaluator's, three questions each.
        slots: responses that were asked for, aligned ones first.
        drawn: draws that accept-first made for them.
        truth: for each prompt with a pair, whether its aligned and its misaligned response are
            what they claim to be.
        late: the same of the responses that were accepted after feedback.
        by_rule: draws that a free rule rejected.
    """

    prompts: int = 0
    draws: int = 0
    verdicts: float = 0.0
    slots: int = 0
    drawn: list[int] = field(default_factory=list)
    accepted: int = 0
    truth: dict[str, tuple[bool, bool]] = field(default_factory=dict)
    late: list[bool] = field(default_factory=list)
    by_rule: int = 0


class Memory:
    """A journal that holds answers in memory: first write wins, nothing is durable."""

    def __init__(self) -> None:
        self._held: dict[str, Entry] = {}

    def get(self, key: str) -> Entry | None:
        """The stored answer."""
        return self._held.get(key)

    async def put(self, entry: Entry) -> Entry:
        """Store without the request, which nothing here reads."""
        return self._held.setdefault(entry.key, replace(entry, request={}))

    async def attempt(self, attempt: Attempt) -> None:
        """Simulated models do not fail."""
        raise AssertionError(attempt)

    def watch_endpoint(self, *_: object) -> None:
        """There is no endpoint."""


def simulate(cells: Sequence[Cell], prompts: int, seed: int = 0, block: int = 500) -> list[Seen]:
    """Run every cell over the same prompts; what cells share is drawn once.

    Args:
        cells: the settings.
        prompts: how many prompts, one pair sought for each.
        seed: of the prompts and the run.
        block: prompts at a time, which bounds the memory.
    """
    seen = [Seen() for _ in cells]

    async def all_blocks() -> None:
        for start in range(0, prompts, block):
            journal = Memory()
            rows = [prompt(number) for number in range(start, min(start + block, prompts))]
            for cell, held in zip(cells, seen, strict=True):
                await _run(cell, rows, journal, seed, held)

    asyncio.run(all_blocks())
    return seen


def prompt(number: int) -> LabelledPrompt:
    """A prompt about one value, like no other."""
    place, other = (random.Random(number + shift).choice(_PLACES) for shift in (0, 10**9))
    text = f"My cousin {number} runs the {place} near the {other}. What now?"
    label = Label("value", "Honesty", 0.9)
    return LabelledPrompt(Prompt(f"p{number:016x}", text, "simulated", number), (label,), ())


def draws_a_response(p: float, draws: int, rounds: int = 0) -> float:
    """Expected draws for one response whose draws pass with probability ``p``: accept-first."""
    most = draws * (rounds + 1)
    return (1 - (1 - p) ** most) / p


def purity(obey: float, sensitivity: float, specificity: float) -> tuple[float, float]:
    """Expected share of accepted responses that are what they claim, aligned and misaligned."""
    aligned = obey * specificity / (obey * specificity + (1 - obey) * (1 - sensitivity))
    misaligned = obey * sensitivity / (obey * sensitivity + (1 - obey) * (1 - specificity))
    return aligned, misaligned


def share(values: Sequence[bool]) -> tuple[float, float]:
    """The mean and the half width of its 95% interval (Wald; prompts are independent)."""
    mean = sum(values) / len(values)
    return mean, Z * math.sqrt(mean * (1 - mean) / len(values))


def mean(values: Sequence[float]) -> tuple[float, float]:
    """The mean and the half width of its 95% interval."""
    middle = sum(values) / len(values)
    variance = sum((value - middle) ** 2 for value in values) / (len(values) - 1)
    return middle, Z * math.sqrt(variance / len(values))


def given_up(first: Seen, best: Seen) -> tuple[float, float]:
    """Purity that accept-first gives up against the best of K, over responses of common prompts.

    The two responses of a prompt count as one observation, the mean of both.
    """
    common = first.truth.keys() & best.truth.keys()
    return mean([(sum(best.truth[one]) - sum(first.truth[one])) / 2 for one in sorted(common)])


async def _run(
    cell: Cell, rows: Sequence[LabelledPrompt], journal: Memory, seed: int, seen: Seen
) -> None:
    asked = {"generator": 0, "evaluator": 0}

    def heard(call: Call) -> None:
        asked[call.role] += 1

    def client(model: str) -> Client:
        made = make_model(ModelSettings(model=model))
        held = cast(Journal, journal)
        return Client(made, held, seed=seed, budget=Budget(), on_call=heard)

    settings = _settings(cell, seed)
    generator = client(cell.generator)
    evaluator = make_judge(client(cell.evaluator), settings.judge, "evaluator")
    work = [(row, generator) for row in rows]
    outcomes = await make_pairs(work, evaluator, settings, None, lambda _: None)
    seen.prompts += len(rows)
    seen.draws += asked["generator"]
    seen.verdicts += asked["evaluator"] / 3
    for outcome in outcomes:
        _count(outcome, seen)


def _count(outcome: Outcome, seen: Seen) -> None:
    seen.by_rule += sum(one.verdict is None for one in outcome.rejected)
    seen.accepted += len(outcome.accepted)
    for kind in ("aligned", "misaligned"):
        made = [one.candidate for one in outcome.rejected]
        made += [one.candidate for one in outcome.accepted]
        number = sum(one.kind == kind for one in made)
        seen.slots += number > 0
        seen.drawn += [number] if number else []
    if isinstance(outcome.result, Pair):
        pair = outcome.result
        truth = (not _violates(pair.aligned), _violates(pair.misaligned))
        seen.truth[pair.labelled.prompt.id] = truth
        for one, right in zip((pair.aligned, pair.misaligned), truth, strict=True):
            seen.late += [right] if one.candidate.round else []


def _violates(accepted: Accepted) -> bool:
    """What a response truly is, whatever the evaluator believes."""
    mark = accepted.candidate.text.rpartition("[[violates:")[2].partition("]]")[0]
    return "value" in mark.split(",")


def _settings(cell: Cell, seed: int) -> RunSettings:
    table = {
        "seed": seed,
        "source": {"path": "simulated"},
        "roles": {
            "classifier": "simulated/classifier",
            "generators": [cell.generator],
            "evaluator": cell.evaluator,
        },
        "classify": {"method": "published"},
        "expand": {"enabled": False},
        "respond": {
            "draws": cell.draws,
            "rounds": cell.rounds,
            "accept": cell.accept,
            "sampling": {"max_tokens": WORDS},
        },
        "judge": {"method": "logprob", "framing": "satisfies", "threshold": 0.5},
    }
    return parse(table, where="simulation", folder=Path())
