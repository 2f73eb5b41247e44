"""Spending stops of a run, shared by all its clients.

A call is admitted before it is sent, retries included. When the budget is spent nothing new
starts, calls in flight finish and are kept, and the run ends with exit code 3, resumable. What an
earlier run spent is in its journal and costs nothing again, so each run has the whole budget.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from misalign_bench.config import BudgetSettings
from misalign_bench.config_model import ModelSettings
from misalign_bench.errors import OutsideWorld, UserError
from misalign_bench.llm.prices import price_of


class BudgetSpent(OutsideWorld):
    """``max_cost`` or ``max_calls`` is reached."""


@dataclass(slots=True)
class _Line:
    """What one model has cost so far."""

    cost: float = 0.0
    settled: int = 0
    in_flight: int = 0

    @property
    def mean(self) -> float:
        return self.cost / self.settled if self.settled else 0.0


class Budget:
    """Counts calls and dollars against ``max_calls`` and ``max_cost`` (None: no bound).

    The cost of a call is known only afterwards. Calls in flight are therefore expected to cost
    what the model's calls have cost on average, and a call that might not fit waits until they are
    settled. So ``max_cost`` is overshot by no more than the calls that start before a model's
    first price is seen, plus the spread of a single call.
    """

    def __init__(self, max_cost: float | None = None, max_calls: int | None = None) -> None:
        self.max_cost, self.max_calls = max_cost, max_calls
        self.cost, self.calls = 0.0, 0
        self._lines: dict[str, _Line] = {}
        self._settled = asyncio.Event()

    @classmethod
    def start(cls, settings: BudgetSettings, models: Iterable[ModelSettings]) -> Budget:
        """The budget of a run over these models.

        Raises:
            UserError: ``max_cost`` cannot hold because a price is unknown and ``max_calls`` is not
                set, or because it is zero and a model costs money.
        """
        for model in models if settings.max_cost is not None else ():
            price = price_of(model)
            if price is None and settings.max_calls is None:
                raise UserError(
                    f"max_cost is set, but the price of {model.model} is unknown",
                    where="budget",
                    mend="Give the model a price (price: {input: …, output: …}) or set max_calls.",
                )
            if settings.max_cost == 0 and price is not None and max(price.input, price.output) > 0:
                raise UserError(f"max_cost is 0, but {model.model} costs money", where="budget")
        return cls(settings.max_cost, settings.max_calls)

    async def admit(self, model: str) -> None:
        """Take one call out of the budget, to be settled afterwards.

        Raises:
            BudgetSpent: it does not fit any more.
        """
        line = self._lines.setdefault(model, _Line())
        while self._full(line):
            if not any(other.in_flight for other in self._lines.values()):
                raise self._spent(f"max_cost of ${self.max_cost:g}", f"${self.cost:.4f} spent")
            self._settled.clear()
            await self._settled.wait()
        if self.max_calls is not None and self.calls >= self.max_calls:
            raise self._spent(f"max_calls of {self.max_calls}", f"{self.calls} calls made")
        self.calls += 1
        line.in_flight += 1

    def settle(self, model: str, cost: float | None) -> None:
        """Book what an admitted call has cost; None if that is unknown."""
        line = self._lines[model]
        line.in_flight -= 1
        line.settled += 1
        line.cost += cost or 0.0
        self.cost += cost or 0.0
        self._settled.set()

    def _full(self, line: _Line) -> bool:
        if self.max_cost is None:
            return False
        if self.cost >= self.max_cost > 0:
            return True
        expected = sum(other.in_flight * other.mean for other in self._lines.values())
        return self.cost + expected + line.mean > self.max_cost

    @staticmethod
    def _spent(bound: str, state: str) -> BudgetSpent:
        return BudgetSpent(
            f"the budget is spent: {state}, {bound}",
            mend="Everything answered so far is kept; raise it and run the same command again.",
        )
