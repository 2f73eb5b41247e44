"""A build as the page lays it out: facts, stages, drops by stage, domains by dimension.

Nothing is computed here that is a result: numbers come from ``stats.csv``, ``draws.csv``, the
evidence of the labels and the manifest as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from misalign_bench.report.build_run import BuildRun, DomainRow
from misalign_bench.report.entrants import short_name

_STAGES = ("ingest", "classify", "deduplicate", "expand", "policy", "respond", "screen", "resample")


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact about a run, with a longer form where the shown one is cut."""

    name: str
    value: str
    whole: str = ""


@dataclass(frozen=True, slots=True)
class BuildView:
    """A build with its drops laid out by stage, and its domains by dimension.

    Each of ``groups`` is a dimension, its domains with any prompt, and the names of the others.
    """

    run: BuildRun
    facts: tuple[Fact, ...]
    drops: tuple[tuple[str, tuple[tuple[str, int], ...]], ...]
    groups: tuple[tuple[str, tuple[DomainRow, ...], tuple[str, ...]], ...]


def build_view(run: BuildRun) -> BuildView:
    """Lay out a build."""
    drops: dict[str, list[tuple[str, int]]] = {}
    for (stage, reason), number in run.drops.items():
        drops.setdefault(stage, []).append((reason, number))
    stages = sorted(drops, key=lambda name: (_STAGES.index(name) if name in _STAGES else 99, name))
    by_stage = tuple(
        (stage, tuple(sorted(drops[stage], key=lambda row: (-row[1], row[0])))) for stage in stages
    )
    groups = []
    for dimension in dict.fromkeys(row.dimension for row in run.domains):
        held = [row for row in run.domains if row.dimension == dimension]
        without = tuple(row.name for row in held if not any(row.counts))
        groups.append((dimension, tuple(row for row in held if any(row.counts)), without))
    return BuildView(run, tuple(_build_facts(run)), by_stage, tuple(groups))


def _build_facts(run: BuildRun) -> list[Fact]:
    settings = run.manifest.get("settings", {})
    facts = [Fact("Data set", run_name(run))]
    if date := run_date(run.manifest):
        facts.append(Fact("Built on", date))
    roles = settings.get("roles")
    for role, value in (roles if isinstance(roles, Mapping) else {}).items():
        models = value if isinstance(value, list) else [value]
        names = [
            short_name(str(model.get("model", "")))
            for model in models
            if isinstance(model, Mapping)
        ]
        if names:
            facts.append(Fact(role.capitalize(), ", ".join(names)))
    return facts


def run_name(run: BuildRun) -> str:
    """What the data set of a build is called."""
    settings = run.manifest.get("settings")
    return str((settings.get("name") if isinstance(settings, Mapping) else "") or run.label)


def run_date(manifest: Mapping[str, Any]) -> str:
    """The day on which a run ended, else began."""
    return str(manifest.get("finished") or manifest.get("started") or "")[:10]
