"""What a run really took beside what was planned for it, figure by figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from misalign_bench.build.plan_bounds import Range
from misalign_bench.build.plan_table import FIGURES, Figure, Plan, Planned
from misalign_bench.llm.model import Role, Usage


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure of one role and model: planned and actual.

    ``inside`` is None where the two cannot be compared; ``note`` says why.
    """

    role: str
    model: str
    figure: str
    low: float | None
    high: float | None
    actual: float
    inside: bool | None
    note: str = ""

    def as_table(self) -> dict[str, Any]:
        """For JSON and the manifest."""
        return asdict(self)


def compare(
    plan: Plan, usage: Mapping[tuple[str, str], Usage] | Mapping[tuple[Role, str], Usage]
) -> tuple[Compared, ...]:
    """What a finished run took, beside what was planned for it.

    Args:
        plan: made before it.
        usage: totals of the run by (role, model).
    """
    planned = {(row.role, row.model): row for row in plan.rows}
    taken: dict[tuple[str, str], Usage] = dict(usage.items())
    rows = []
    for place in dict.fromkeys([*planned, *taken]):
        row = planned.get(place) or Planned(*place)
        rows += [_compared(row, taken.get(place, Usage()), figure) for figure in FIGURES]
    return tuple(rows)


def _compared(row: Planned, used: Usage, figure: Figure) -> Compared:
    held: Range | None = getattr(row, figure)
    actual = used.calls + used.replayed if figure == "calls" else getattr(used, figure)
    if held is None:
        return Compared(row.role, row.model, figure, None, None, actual, None, "not planned")
    low = 0 if used.replayed and figure != "calls" else held.low
    inside: bool | None = actual in Range(low, held.high)
    note = ""
    if figure == "cost" and used.unpriced:
        inside, note = None, f"{used.unpriced} calls have no known cost"
    elif figure == "seconds" and used.errors:
        inside, note = None, "attempts that failed took time too"
    elif figure in ("input_tokens", "cost") and actual < low and not _reports_all(row.model):
        # Nothing is reported where a provider filters, or a prompt is longer than the context.
        inside, note = None, "the tokens of some calls were not reported"
    return Compared(row.role, row.model, figure, low, held.high, actual, inside, note)


def _reports_all(model: str) -> bool:
    return model.startswith("simulated/")
