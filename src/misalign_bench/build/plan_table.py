"""A plan as a table by role and model.

Calls are counted with those that the journal answers; tokens, cost and seconds are those of calls
that are made. Seconds of a role are the time its calls are under way, added up: calls overlap, and
embedded models wait for each other, so they are more than the clock shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Literal

from misalign_bench.build.plan_bounds import SLOWER, Load, Range, dollars, engine_seconds
from misalign_bench.build.plan_journal import Stored
from misalign_bench.config import RunSettings
from misalign_bench.config_model import ModelSettings
from misalign_bench.journal.store import Journal
from misalign_bench.llm.embedded import SLOTS
from misalign_bench.llm.model import Request, Role
from misalign_bench.llm.prices import price_of

Figure = Literal["calls", "input_tokens", "output_tokens", "cost", "seconds"]
FIGURES: tuple[Figure, ...] = ("calls", "input_tokens", "output_tokens", "cost", "seconds")

NOTHING = Range()

# Loading a model, fitting the classifier, a commit: seldom more than this.
_SECONDS_TO_START, _SECONDS_A_CALL = 60.0, 0.5
_EMBEDDED_A_SECOND = 300


@dataclass(frozen=True, slots=True)
class Planned:
    """What one role takes of one model.

    Attributes:
        cost: US dollars, None if the price is unknown.
        seconds: under way, None if the speed is unknown.
        first: calls that are sure or come first, whose requests are known now.
        first_in_journal: how many of those the journal answers; None without a journal.
    """

    role: str
    model: str
    calls: Range = NOTHING
    input_tokens: Range = NOTHING
    output_tokens: Range = NOTHING
    cost: Range | None = NOTHING
    seconds: Range | None = NOTHING
    first: int = 0
    first_in_journal: int | None = None

    def __add__(self, other: Planned) -> Planned:
        return Planned(
            self.role,
            self.model,
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            _sum(self.cost, other.cost),
            _sum(self.seconds, other.seconds),
            self.first + other.first,
            None
            if self.first_in_journal is None or other.first_in_journal is None
            else self.first_in_journal + other.first_in_journal,
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will take.

    Attributes:
        rows: by role and model.
        found: prompts and pairs at each step.
        clock: seconds from start to end, None if a speed is unknown.
        notes: what else to know, a sentence each.
    """

    rows: tuple[Planned, ...]
    found: Mapping[str, Range]
    clock: Range | None
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> Planned:
        """All rows together."""
        return reduce(Planned.__add__, self.rows, Planned("all", "", first_in_journal=0))

    def as_table(self) -> dict[str, Any]:
        """For JSON and the manifest; a range is a list of two."""
        return {
            "rows": [_table(row) for row in self.rows],
            "total": _table(self.total),
            "found": {name: _ends(held) for name, held in self.found.items()},
            "clock": _ends(self.clock),
            "notes": list(self.notes),
        }


@dataclass(slots=True)
class _Line:
    load: Load = field(default_factory=Load)
    first: int = 0
    in_journal: int = 0


class Tally:
    """Collects the loads of a plan and makes the table of them.

    Args:
        settings: of the run.
        journal: of an earlier run, if there is one.
        lenient: whether calls may stay unanswered.
    """

    def __init__(self, settings: RunSettings, journal: Journal | None, *, lenient: bool) -> None:
        self._settings = settings
        self._stored = Stored(journal, settings.seed) if journal is not None else None
        self._lenient = lenient
        self._lines: dict[tuple[str, ModelSettings], _Line] = {}

    def add(
        self, role: Role, model: ModelSettings, load: Load, first: Sequence[Request] = ()
    ) -> None:
        """Add a load, and those of its requests that come first."""
        line = self._lines.setdefault((role, model), _Line())
        line.load += load
        line.first += len(first)
        if self._stored is not None:
            line.in_journal += sum(self._stored.has(request, model) for request in first)

    def plan(self, found: Mapping[str, Range], *, no_new_draws: bool, exact: bool) -> Plan:
        """The table.

        Args:
            found: prompts and pairs at each step.
            no_new_draws: whether generators are not asked.
            exact: whether the labels are known.
        """
        loads = {
            place: self._adjusted(place[0], line.load, no_new_draws)
            for place, line in self._lines.items()
        }
        busy = _engines(loads)
        rows: dict[tuple[str, str], Planned] = {}
        for (role, model), load in loads.items():
            line = self._lines[role, model]
            row = _planned(
                role,
                model.model,
                load,
                dollars(load, price_of(model)),
                self._under_way(role, model, load, busy),
                line.first,
                line.in_journal if self._stored is not None else None,
            )
            place = role, model.model
            rows[place] = rows[place] + row if place in rows else row
        made = Plan(tuple(rows.values()), found, _clock(loads, found, busy))
        notes = self._notes(made, no_new_draws=no_new_draws, exact=exact)
        return Plan(made.rows, made.found, made.clock, tuple(notes))

    def _adjusted(self, role: str, load: Load, no_new_draws: bool) -> Load:
        if role == "generator" and no_new_draws:
            # The journal answers some; none is made.
            return Load(calls=Range(0, load.calls.high))
        failed = self._stored is not None and role in self._stored.failed
        return load.or_less() if self._lenient or failed else load

    def _under_way(self, role: str, model: ModelSettings, load: Load, busy: float) -> Range | None:
        """Seconds that calls are under way: those of a model wait while another one computes."""
        if not load.calls.high:
            return NOTHING
        own = engine_seconds(load, model)
        if own is None:
            return None
        in_turn = role == "evaluator" and self._settings.judge.method != "structured"
        alone = in_turn or "deterministic=true" in model.model
        slots = 1 if alone else model.concurrency or SLOTS
        # Nothing is under way for longer than its deadline.
        return Range(own.low, min(slots * busy, load.calls.high * model.attempt_seconds))

    def _notes(self, made: Plan, *, no_new_draws: bool, exact: bool) -> list[str]:
        said = []
        if not exact:
            said.append(
                "Labels are known only once the classifier was asked: what rests on them starts "
                "at nothing."
            )
        if no_new_draws:
            said.append("No response is drawn: a pair that lacks one in the journal is dropped.")
        if self._lenient:
            said.append("Calls may stay unanswered, so every range starts at nothing.")
        unpriced = sorted({row.model for row in made.rows if row.cost is None})
        if unpriced:
            said.append(f"No price is known for {', '.join(unpriced)}: the cost is unknown.")
        budget, total = self._settings.budget, made.total
        if budget.max_calls is not None and total.calls.high > budget.max_calls:
            said.append(f"max_calls of {budget.max_calls:,} may stop the run before its end.")
        if budget.max_cost is not None and total.cost and total.cost.high > budget.max_cost:
            said.append(f"max_cost of ${budget.max_cost:g} may stop the run before its end.")
        return said


def _engines(loads: Mapping[tuple[str, ModelSettings], Load]) -> float:
    """How long the embedded engines compute together at most: they take turns."""
    seconds = (engine_seconds(load, model) for (_, model), load in loads.items())
    return sum(held.high for held in seconds if held is not None)


def _clock(
    loads: Mapping[tuple[str, ModelSettings], Load], found: Mapping[str, Range], busy: float
) -> Range | None:
    """Seconds from start to end where every model that may be asked is embedded."""
    own = [
        (load, engine_seconds(load, model)) for (_, model), load in loads.items() if load.calls.high
    ]
    known = [held for _, held in own if held is not None]
    if len(known) < len(own):
        return None
    calls = sum(load.calls.high for load, _ in own)
    texts = sum(held.high for held in found.values()) + calls
    embedding = texts / _EMBEDDED_A_SECOND * SLOWER
    starting = _SECONDS_TO_START * (1 + len(own))
    high = busy + starting + embedding + calls * _SECONDS_A_CALL
    return Range(sum(held.low for held in known), high)


def _planned(
    role: str,
    model: str,
    load: Load,
    cost: Range | None,
    seconds: Range | None,
    first: int = 0,
    in_journal: int | None = None,
) -> Planned:
    tokens = load.input_tokens, load.output_tokens
    return Planned(role, model, load.calls, *tokens, cost, seconds, first, in_journal)


def _sum(one: Range | None, other: Range | None) -> Range | None:
    return None if one is None or other is None else one + other


def _ends(held: Range | None) -> list[float] | None:
    return None if held is None else [held.low, held.high]


def _table(row: Planned) -> dict[str, Any]:
    figures: dict[str, Any] = {figure: _ends(getattr(row, figure)) for figure in FIGURES}
    first = {"first_calls": row.first, "first_calls_in_journal": row.first_in_journal}
    return {"role": row.role, "model": row.model, **figures, **first}
