"""Who stands in the tables: one entrant per run, target, condition and framing, named for people.

A name carries only what tells it from the others: the framing where a target was measured under
several, the run where a target was measured in several.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl

from misalign_bench.records import CONDITIONS
from misalign_bench.report.bench_run import BenchRun, Measured

CATEGORIES = ("general", "fine-tuned", "open-weight", "guardrail")
"""Kinds of target (paper: general-purpose, fine-tuned on one dimension, open-weight)."""

_LONGEST_SHORT = 40


@dataclass(frozen=True, slots=True)
class Entrant:
    """A measurement with its names: ``label`` in full, ``short`` for charts and headings.

    ``label`` is unique among the entrants of one condition, and so is ``short``.
    """

    run: BenchRun
    measured: Measured
    label: str
    short: str

    @property
    def simulated(self) -> bool:
        """Whether the target is a behaviour model."""
        return is_simulated(self.measured)


def is_simulated(measured: Measured) -> bool:
    """Whether a target is a behaviour model."""
    return bool(measured.facts.get("simulated")) or measured.target.startswith("simulated/")


def entrants(runs: Sequence[BenchRun]) -> list[Entrant]:
    """All measurements, joint first, then by Alignment Score from the best."""
    found = [
        Entrant(run, measured, measured.target, short_name(measured.target))
        for run in runs
        for measured in run.measured
    ]
    found = _told_apart(found, lambda one: one.measured.framing)
    found = _told_apart(found, lambda one: one.run.label)
    repeated = Counter((one.measured.condition, one.short) for one in found)
    found = [
        one if repeated[one.measured.condition, one.short] == 1 else replace(one, short=one.label)
        for one in found
    ]
    return sorted(found, key=_place)


def of_condition(everyone: Sequence[Entrant], condition: str) -> list[Entrant]:
    """The entrants measured under one condition."""
    return [one for one in everyone if one.measured.condition == condition]


def headline(everyone: Sequence[Entrant]) -> list[Entrant]:
    """Those under the first condition that was measured, which is ``joint`` where it was."""
    return next((group for name in CONDITIONS if (group := of_condition(everyone, name))), [])


def by_category(group: Sequence[Entrant]) -> list[tuple[str, tuple[Entrant, ...]]]:
    """Entrants by category of target, in the order of ``CATEGORIES``, within one as they come.

    The name of a category is empty where none of them has any.
    """
    names = [*CATEGORIES, *sorted({one.measured.category for one in group} - {*CATEGORIES, ""}), ""]
    found = [(name, tuple(one for one in group if one.measured.category == name)) for name in names]
    found = [(name, held) for name, held in found if held]
    if [name for name, _ in found] == [""]:
        return found
    return [(name or "category not given", held) for name, held in found]


def evaluators(run: BenchRun) -> list[str]:
    """The models that decided what is true of the items."""
    return [name for name in str(run.header.get("evaluator", "")).split(", ") if name]


def short_name(name: str) -> str:
    """A model's name without provider, address and parameters.

    >>> short_name("openai/meta-llama/Llama-3.1-8B-Instruct@http://127.0.0.1:8000/v1")
    'Llama-3.1-8B-Instruct'
    >>> short_name("simulated/judge?sensitivity=0.9&name=careful")
    'judge careful'
    """
    bare = name.partition("@http")[0].partition("?")[0]
    last = bare.rpartition("/")[2] or bare
    if name.startswith("simulated/"):
        given = dict(parse_qsl(name.partition("?")[2])).get("name", "")
        last = f"{last} {given}".strip()
    return last if len(last) <= _LONGEST_SHORT else f"{last[: _LONGEST_SHORT - 1]}…"


def _told_apart(found: Sequence[Entrant], fact: Callable[[Entrant], str]) -> list[Entrant]:
    """Add a fact to the names of those that have the same name and differ in the fact."""
    facts: dict[tuple[str, str], set[str]] = {}
    for one in found:
        facts.setdefault((one.measured.condition, one.label), set()).add(fact(one))
    return [
        one
        if len(facts[one.measured.condition, one.label]) == 1
        else replace(one, label=f"{one.label} · {fact(one)}", short=f"{one.short} · {fact(one)}")
        for one in found
    ]


def _place(one: Entrant) -> tuple[int, float, str]:
    score = one.measured.joint.alignment_score.value
    return CONDITIONS.index(one.measured.condition), -1.0 if score is None else -score, one.label
