"""``mode: respond`` in one call: fit the judges' thresholds, let the targets answer, judge, probe.

Everything goes through the journal, so that the same command resumes where it was stopped, and a
changed panel judges the stored answers again without asking for new ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from misalign_bench.bench.measure import Watch
from misalign_bench.bench.probes import Probed, probe
from misalign_bench.bench.respond import Responding, Target, respond
from misalign_bench.build.pipeline import Unfinished
from misalign_bench.build.roles import Clients
from misalign_bench.config import BenchSettings
from misalign_bench.judge.bind import bind_judge
from misalign_bench.judge.consistency import Asked, sample
from misalign_bench.judge.judge import Judge
from misalign_bench.judge.panel import Panel, seat
from misalign_bench.llm.model import Sampling
from misalign_bench.records import Item, Pending


@dataclass(frozen=True, slots=True)
class Responded:
    """What was answered and judged, and by whom.

    Attributes:
        calibrations: of the judges whose thresholds were fitted, by name.
    """

    responding: Responding
    targets: tuple[Target, ...]
    panel: Panel
    calibrations: Mapping[str, Mapping[str, Any]]
    probes: tuple[Probed, ...] = ()


async def respond_measure(
    clients: Clients, prompts: Sequence[Item], settings: BenchSettings, seed: int, watch: Watch
) -> Responded:
    """Ask everything that ``settings`` describe.

    Args:
        clients: bound to the journal.
        prompts: as ``responses.prompts_of`` gives them.
        settings: targets, judges, epochs, probes.
        seed: of the sample that the probes take.
        watch: told of the progress.

    Raises:
        Unfinished: something has no answer yet.
        UserError: as ``respond`` and ``seat``.
    """
    targets = tuple(_target(clients, settings))
    judges, calibrations = await _judges(clients, settings, watch)
    panel = seat(judges, settings.panel.rule, one_family=settings.panel.one_family)
    responding = await respond(
        prompts,
        targets,
        panel,
        watch,
        epochs=settings.epochs,
        allow_shared_roles=settings.allow_shared_roles,
    )
    responding.refuse_pending()
    asked = sampled(prompts, responding, settings.panel.probes, seed)
    probes = [await _probed(judge, asked, watch) for judge in judges if asked]
    return Responded(responding, targets, panel, calibrations, tuple(probes))


def sampled(prompts: Sequence[Item], responding: Responding, wanted: int, seed: int) -> list[Asked]:
    """At most so many answers to probe with: at most one to a prompt, drawn by hash."""
    rows = [
        Asked(f"{one.target} {prompts[row].prompt_id}", prompts[row].prompt, held.text, str(row))
        for one in responding.answers
        for held in one.responses
        for row in (held.prompt,)
        if held.outcome == "answered" and held.epoch == 0
    ]
    return sample(rows, wanted, seed)


def _target(clients: Clients, settings: BenchSettings) -> list[Target]:
    targets = []
    for one in settings.targets:
        given = one.sampling or settings.answers
        sampling = Sampling(given.temperature, given.top_p, given.max_tokens)
        targets.append(Target(clients.of(one), sampling))
    return targets


async def _judges(
    clients: Clients, settings: BenchSettings, watch: Watch
) -> tuple[list[Judge], dict[str, Mapping[str, Any]]]:
    """Every judge with its thresholds fitted."""
    judges: list[Judge] = []
    calibrations: dict[str, Mapping[str, Any]] = {}
    for one in settings.judges:
        client = clients.of(one)
        with watch.stage(f"calibrate {one.model}") as stage:
            bound = await bind_judge(client, settings.panel.verdict, "judge", stage.advance)
        if isinstance(bound, Pending):
            raise Unfinished([bound])
        judge, fitted = bound
        judges.append(judge)
        if fitted is not None:
            calibrations[judge.name] = fitted.as_table()
    return judges, calibrations


async def _probed(judge: Judge, asked: Sequence[Asked], watch: Watch) -> Probed:
    with watch.stage(f"probe {judge.name}", len(asked)) as stage:
        found = await probe(judge, asked, settled=stage.advance)
    if isinstance(found, Pending):
        raise Unfinished([found])
    return found
