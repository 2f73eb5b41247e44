"""Stage II in one call: fit the thresholds, ask, and with ``until`` stop when it is enough.

Everything goes through the journal, so a batch asks only what the ones before it did not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from misalign_bench.bench.adaptive import cluster_order, decide, taken_items
from misalign_bench.bench.detect import Detection, detect
from misalign_bench.bench.results import Setting, joint_scores
from misalign_bench.build.pipeline import Unfinished
from misalign_bench.build.roles import Clients
from misalign_bench.config import BenchSettings
from misalign_bench.errors import UserError
from misalign_bench.judge.bind import bind_judge
from misalign_bench.judge.calibration import Calibration
from misalign_bench.judge.judge import Judge
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
    """

    items: Sequence[Item]
    detection: Detection
    judges: list[Judge]
    fits: dict[str, Calibration]
    until: Mapping[str, Any] | None = None


async def measure(
    clients: Clients,
    items: Sequence[Item],
    evaluators: Sequence[str],
    settings: BenchSettings,
    setting: Setting,
    watch: Watch,
) -> Measured:
    """Fit every target's thresholds, then ask it about every item, or as many as are needed.

    Args:
        clients: bound to the journal.
        items: those that may be asked about.
        evaluators: who decided what is true of them, and may be no target.
        settings: targets, conditions, epochs, when to stop.
        setting: how results are computed, for the intervals that decide when to stop.
        watch: told of the progress.

    Raises:
        Unfinished: calibration has no answer yet.
        UserError: as ``detect``.
    """
    judges, fits = await _bound(clients, settings, watch)

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
        return Measured(items, await ask(items), judges, fits)
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
    return Measured(part, detection, judges, fits, until)


async def _bound(
    clients: Clients, settings: BenchSettings, watch: Watch
) -> tuple[list[Judge], dict[str, Calibration]]:
    """Every target as a judge, with its thresholds fitted."""
    judges: list[Judge] = []
    fits: dict[str, Calibration] = {}
    for target in settings.targets:
        with watch.stage(f"calibrate {target.model}") as stage:
            bound = await bind_judge(clients.of(target), settings.judge, "target", stage.advance)
        if isinstance(bound, Pending):
            raise Unfinished([bound])
        judge, fitted = bound
        judges.append(judge)
        if fitted is not None:
            fits[judge.name] = fitted
    return judges, fits


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
