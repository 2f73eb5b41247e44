"""Bind models to roles and keep the roles apart (paper: no model scores what it produced).

Classifier and evaluator must not be in the generator pool; breaking it needs
``allow_shared_roles: true``, which marks every result. Two models are the same one if their weights
are, whatever they are called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from misalign_bench.config import RunSettings
from misalign_bench.config_model import ModelSettings
from misalign_bench.errors import UserError
from misalign_bench.llm.budget import Budget
from misalign_bench.llm.calls import Call
from misalign_bench.llm.client import Client
from misalign_bench.llm.model import Model, Usage
from misalign_bench.llm.providers import make_model

if TYPE_CHECKING:
    from misalign_bench.journal.store import Journal


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What the command line says about calls, the same for all roles of a run."""

    accept_failures: bool = False
    retry_failed: bool = False
    no_new_draws: bool = False
    on_call: Callable[[Call], None] | None = None


@dataclass(slots=True)
class Clients:
    """One client for each model of a run, made when first asked for and closed together."""

    journal: Journal
    seed: int
    budget: Budget
    options: CallOptions = CallOptions()
    _held: dict[ModelSettings, Client] = field(default_factory=dict)

    def of(self, settings: ModelSettings) -> Client:
        """The client of this model.

        Raises:
            UserError: the model is unknown, or what it needs is not there.
        """
        client = self._held.get(settings)
        if client is None:
            client = self._held[settings] = Client(
                make_model(settings),
                self.journal,
                seed=self.seed,
                budget=self.budget,
                retries=settings.retries,
                deadline=settings.attempt_seconds,
                accept_failures=self.options.accept_failures,
                retry_failed=self.options.retry_failed,
                no_new=self.options.no_new_draws,
                same_model=settings.same_model,
                on_call=self.options.on_call,
            )
        return client

    def usage(self) -> dict[tuple[str, str], Usage]:
        """Totals of this run by (role, model)."""
        totals: dict[tuple[str, str], Usage] = {}
        for client in self._held.values():
            for (role, name), used in client.usage().items():
                held = totals.get((role, name))
                totals[role, name] = used if held is None else held.plus(used)
        return totals

    async def close(self) -> None:
        """Close every client; calls under way are finished and stored."""
        # At once: while one finishes its calls, no other may begin those that wait in it.
        await asyncio.gather(*(client.close() for client in self._held.values()))
        self._held.clear()


def refuse_shared(settings: RunSettings, models: Mapping[ModelSettings, Model]) -> bool:
    """Whether roles are shared although they should not be.

    Args:
        settings: of the run.
        models: the models by their settings; those of generators, evaluator and, where it answers
            through a client, classifier.

    Returns:
        True if roles are shared and that is allowed; every result is then marked.

    Raises:
        UserError: roles are shared and that is not allowed, or a generator is named twice.
    """
    roles = settings.roles
    names = [models[item].name for item in roles.generators]
    for name in names:
        if names.count(name) > 1:
            # Pairs are told apart by prompt and generator.
            raise UserError(f"{name} is named twice", where="roles.generators", mend="Name it once")
    generators = {models[item].weights for item in roles.generators}
    for role, held in (("evaluator", roles.evaluator), ("classifier", roles.classifier)):
        model = models.get(held)
        if model is None or model.weights not in generators:
            continue
        if not roles.allow_shared_roles:
            raise UserError(
                f"the {role} {model.name} is also a generator",
                where="roles",
                mend="Name another model, or set allow_shared_roles: true (marks every result).",
            )
        return True
    return False
