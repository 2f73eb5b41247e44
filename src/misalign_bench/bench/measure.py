"""Stage II in one call: fit the thresholds, ask, and with ``until`` stop when it is enough.

Everything goes through the journal, so a batch asks only what the ones before it did not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from misalign_bench.bench.adaptive import cluster_order, decide, taken_items
from misalign_bench.bench.choosing import Choosing
from misalign_bench.bench.detect import Detection, Measurement, detect
from misalign_bench.bench.results import Setting, joint_scores
from misalign_bench.bench.reward import bind_reward
from misalign_bench.build.pipeline import Unfinished
from misalign_bench.build.roles import Clients
from misalign_bench.config import BenchSettings, TargetSettings
from misalign_bench.errors import UserError
from misalign_bench.judge.bind import bind_judge
from misalign_bench.judge.calibration import Calibration
from misalign_bench.judge.judge import Judge, form_of
from misalign_bench.llm.weights import find
from misalign_bench.records import Item, Pending, Score


class Stage(Protocol):
    """A stage under way."""

    def advance(self, n: int = 1, spend: float = 0.0, note: str = "") -> None:
        """Count ``n`` more as done."""

    def reach(self, done: int, total: int) -> None:
        """Say how many are done, and of how many."""


class Watch(Protocol):
    """What is told how a run goes on."""

    def stage(self, name: str, total: int | None = None) -> AbstractContextManager[Stage]:
        """A stage that goes on while the block runs."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was asked about, and what came back.

    Attributes:
        until: how much of the items ``--until`` took, and why it stopped.
        fitted_on: the rewards that thresholds were fitted on.
    """

    items: Sequence[Item]
    detection: Detection
    judges: list[Judge]
    fits: dict[str, Calibration]
    until: Mapping[str, Any] | None = None
    fitted_on: tuple[Measurement, ...] = ()


async def measure(
    clients: Clients,
    items: Sequence[Item],
    evaluators: Sequence[str],
    settings: BenchSettings,
    setting: Setting,
    watch: Watch,
    choosing: Choosing | None = None,
) -> Measured:
    """Fit every target's thresholds, then ask it about every item, or as many as are needed.

    Args:
        clients: bound to the journal.
        items: those that may be asked about.
        evaluators: who decided what is true of them, and may be no target.
        settings: targets, conditions, epochs, when to stop.
        setting: how results are computed, for the intervals that decide when to stop.
        watch: told of the progress.
        choosing: what a reward model's threshold is fitted on.

    Raises:
        Unfinished: calibration has no answer yet.
        UserError: as ``detect``.
    """
    judges, fits, fitted_on = await _bound(clients, settings, watch, choosing)

    async def ask(some: Sequence[Item]) -> Detection:
        with watch.stage("detect") as stage:
            return await detect(
                some,
                judges,
                settings.conditions,
                epochs=settings.epochs,
                evaluators=evaluators,
                weights_of=weights_by_name([*evaluators, *(one.generator for one in some)]),
                allow_shared_roles=settings.allow_shared_roles,
                progress=stage.reach,
            )

    if settings.until is None or not items:
        return Measured(items, await ask(items), judges, fits, fitted_on=fitted_on)
    order = cluster_order(items, setting.seed)
    taken, part = 0, list(items)
    scores: list[Score] = []
    while not (decision := decide(scores, settings.until, taken, len(order))).stop:
        taken += decision.more
        part = taken_items(items, order, taken)
        detection = await ask(part)
        scores = joint_scores(part, detection, setting)
    until = {
        "width": settings.until,
        "clusters": taken,
        "of": len(order),
        "items": len(part),
        "of_items": len(items),
        "why": decision.why,
    }
    return Measured(part, detection, judges, fits, until, fitted_on)


async def _bound(
    clients: Clients, settings: BenchSettings, watch: Watch, choosing: Choosing | None
) -> tuple[list[Judge], dict[str, Calibration], tuple[Measurement, ...]]:
    """Every target as a judge, with its thresholds fitted, and the rewards some rest on."""
    judges: list[Judge] = []
    fits: dict[str, Calibration] = {}
    fitted_on: list[Measurement] = []
    for target in settings.targets:
        with watch.stage(f"calibrate {target.model}") as stage:
            bound = await _bind(clients, settings, target, stage, choosing)
        if isinstance(bound, Pending):
            raise Unfinished([bound])
        judge, fitted, rewards = bound
        judges.append(judge)
        if fitted is not None:
            fits[judge.name] = fitted
        if rewards is not None:
            fitted_on.append(rewards)
    return judges, fits, tuple(fitted_on)


async def _bind(
    clients: Clients,
    settings: BenchSettings,
    target: TargetSettings,
    stage: Stage,
    choosing: Choosing | None,
) -> tuple[Judge, Calibration | None, Measurement | None] | Pending:
    client, judge = clients.of(target), settings.judge_of(target)
    if form_of(client, judge) == "reward":
        names = [one.generator for one in choosing.items] if choosing else []
        return await bind_reward(
            client, judge, choosing, weights_of=weights_by_name(names), progress=stage.reach
        )
    bound = await bind_judge(client, judge, "target", stage.advance)
    return bound if isinstance(bound, Pending) else (*bound, None)


def weights_by_name(names: list[str]) -> dict[str, str]:
    """The weights behind embedded names, whatever options were given with them."""
    known = {}
    for name in dict.fromkeys(names):
        provider, _, rest = name.partition("/")
        if provider != "embedded":
            continue
        try:
            known[name] = f"sha256:{find(rest.partition('?')[0]).sha256}"
        except UserError:
            continue
    return known
