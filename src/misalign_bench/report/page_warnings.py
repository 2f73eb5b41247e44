"""What a reader must know before the numbers: the band at the top of the page.

Each warning says what is the case and what follows from it. ``danger``: the numbers say nothing
about real models; ``caution``: they say less than they seem to; ``note``: how they were made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from misalign_bench.bench.statistics import LEAST_CLUSTERS, MUCH_UNSCORED
from misalign_bench.records import DIMENSIONS, SPLITS
from misalign_bench.report.bench_run import BenchRun
from misalign_bench.report.entrants import Entrant, evaluators, is_simulated, short_name
from misalign_bench.report.runs import Runs

Level = Literal["danger", "caution", "note"]


@dataclass(frozen=True, slots=True)
class Warned:
    """One warning of the band."""

    level: Level
    title: str
    text: str


def warnings(runs: Runs, everyone: Sequence[Entrant]) -> list[Warned]:
    """All warnings of a page, the gravest first."""
    found = [
        *_simulated(runs),
        *_shared_roles(runs),
        *_different_data(runs.benches),
        *_small_models(runs),
        *_unfinished(runs),
        *_unscored(everyone),
        *_part_of_the_data(runs.benches),
        *_few_clusters(runs.benches),
        *_covered(everyone),
        *_own_items(everyone),
    ]
    order = ("danger", "caution", "note")
    return sorted(found, key=lambda one: order.index(one.level))


def marks(runs: Runs) -> Iterator[str]:
    """Words to stand over every part of the page, so that no picture of it goes without them."""
    if any(_simulated(runs)):
        yield "simulated"
    if any(_shared_roles(runs)):
        yield "plumbing only"
    if any(map(_partial, runs.benches)):
        yield "partial"
    if any(_unfinished(runs)):
        yield "unfinished"


def _simulated(runs: Runs) -> Iterator[Warned]:
    targets = {
        short_name(one.target) for run in runs.benches for one in run.measured if is_simulated(one)
    }
    marked = any(run.header.get("simulated") for run in runs.benches)
    data = any(name.startswith("simulated/") for name in _builders(runs))
    # The mark of a result does not say whose it is; without a simulated target it is the data's.
    data = data or (marked and not targets)
    if not targets and not data:
        return
    who = [f"the targets {_listed(sorted(targets))}"] if targets else []
    who += ["models behind the data set"] if data else []
    yield Warned(
        "danger",
        "Simulated models",
        f"{_capital(' and '.join(who))} are behaviour models with chosen error rates. The numbers"
        " test the software; they say nothing about any real model.",
    )


def _shared_roles(runs: Runs) -> Iterator[Warned]:
    shared = any(run.header.get("shared_roles") for run in runs.benches)
    shared = shared or any(
        _settings(run.manifest, "roles", "allow_shared_roles") for run in runs.builds
    )
    if shared:
        yield Warned(
            "danger",
            "Plumbing only",
            "Models were allowed to play roles that must be kept apart (allow_shared_roles), so a"
            " model may be measured against its own judgement. The numbers show that every step"
            " runs, nothing more.",
        )


def _small_models(runs: Runs) -> Iterator[Warned]:
    names = {one.target for run in runs.benches for one in run.measured} | _builders(runs)
    small = sorted({short_name(name) for name in names if name.startswith("embedded/")})
    if small:
        yield Warned(
            "caution",
            "Small embedded models",
            f"{_listed(small)} ran inside this process. Models this small can tell a plainly bad"
            " answer from a plainly good one more often than not, when they are shown examples and"
            " their probability is read against a fitted threshold. They cannot give reasons,"
            " weigh a subtle, long or culturally specific case, or write answers as good or as bad"
            " as a large model's. What they decided to be true of the items is their opinion. Read"
            " this page as a proof that the whole pipeline works, not as a ranking of models.",
        )


def _different_data(benches: Sequence[BenchRun]) -> Iterator[Warned]:
    if len({run.dataset["content_hash"] for run in benches}) > 1:
        yield Warned(
            "caution",
            "Different data sets",
            "The runs on this page were made on different items. Compare targets within one run"
            " only.",
        )
    versions = {run.header.get("comparability_version") for run in benches}
    if len(versions) > 1:
        yield Warned(
            "caution",
            "Different definitions",
            "The runs were made by versions that define a number differently (comparability"
            f" versions {_listed(sorted(map(str, versions)))}). Do not compare them.",
        )


def _unfinished(runs: Runs) -> Iterator[Warned]:
    for run in runs.everything:
        status = run.manifest.get("status", "done")
        if status != "done":
            reason = f": {run.manifest['reason']}" if run.manifest.get("reason") else ""
            yield Warned(
                "caution",
                "A run did not finish",
                f"The last run in {run.label} ended as '{status}'{reason}. What is shown is from"
                " before.",
            )


def _unscored(everyone: Sequence[Entrant]) -> Iterator[Warned]:
    much = [
        f"{one.measured.joint.unscored_share:.1%} of {one.short} ({one.measured.condition})"
        for one in everyone
        if one.measured.joint.unscored_share > MUCH_UNSCORED
    ]
    if much:
        yield Warned(
            "caution",
            "Over 5% unscored",
            f"Without a verdict: {_listed(much)}. They count as wrong; the tables"
            " give the figures without them, and the best that they could have been.",
        )


def _part_of_the_data(benches: Sequence[BenchRun]) -> Iterator[Warned]:
    for run in benches:
        name = f" ({run.label})" if len(benches) > 1 else ""
        if set(run.header.get("splits", ())) == set(SPLITS):
            yield Warned(
                "note",
                f"All splits were benched{name}",
                "No part of the data set was held back, as is right for one this small. A figure"
                " to publish rests on the test split only.",
            )
        if run.header.get("limit") is not None:
            yield Warned(
                "caution",
                f"Only a part of the items{name}",
                f"This run is partial: --limit {run.header['limit']} was given, and"
                f" {run.dataset['items']:,} items were benched, whole pairs chosen by a seeded"
                " hash. It is a rehearsal; its numbers are not those of the data set.",
            )
        if until := run.header.get("until"):
            share = until["items"] / max(1, until["of_items"])
            yield Warned(
                "caution" if _partial(run) else "note",
                f"As many items as were needed{name}",
                f"{'This run is partial: ' if _partial(run) else ''}--until {until['width']:g} was"
                f" given, and {until['items']:,} of {until['of_items']:,} items ({share:.0%}) were"
                " benched, whole clusters in a seeded stratified order; "
                + (
                    "then every Alignment Score was known that well."
                    if until["why"] == "reached"
                    else "the width was not reached before the items ended."
                ),
            )


def _partial(run: BenchRun) -> bool:
    until = run.header.get("until") or {"items": 0, "of_items": 0}
    return run.header.get("limit") is not None or until["items"] < until["of_items"]


def _covered(everyone: Sequence[Entrant]) -> Iterator[Warned]:
    """Guardrails that have no category for a dimension, and so pass everything in it."""
    partial: dict[str, list[str]] = {}
    for one in everyone:
        covers = one.measured.facts.get("covers")
        if isinstance(covers, list) and set(covers) < set(DIMENSIONS):
            lacks = [name for name in DIMENSIONS if name not in covers]
            partial.setdefault(" or ".join(lacks), []).append(one.short)
    for missing, names in partial.items():
        yield Warned(
            "note",
            "Targets that judge some dimensions only",
            f"{_capital(_listed(sorted(set(names))))}: no category for {missing}, so what goes"
            " wrong there is passed. That is a finding about guardrails, not an error.",
        )


def _few_clusters(benches: Sequence[BenchRun]) -> Iterator[Warned]:
    for run in benches:
        clusters = run.dataset.get("clusters", LEAST_CLUSTERS)
        if clusters < LEAST_CLUSTERS:
            yield Warned(
                "caution",
                "Too few prompts for intervals",
                f"The items of {run.label} come from {clusters} clusters of near-duplicate"
                f" prompts; under {LEAST_CLUSTERS} no interval is given.",
            )


def _own_items(everyone: Sequence[Entrant]) -> Iterator[Warned]:
    own = []
    for one in everyone:
        if one.measured.condition == "joint" and one.measured.own_items:
            responses = one.measured.own_items.alignment_score.n
            own.append(f"{responses:,} verdicts of {one.short}")
    if own:
        yield Warned(
            "note",
            "Targets that wrote some of the items",
            f"{_capital(_listed(own))} are on responses that its own weights wrote. They are left"
            " out of the headline and stand apart as own items.",
        )


def _builders(runs: Runs) -> set[str]:
    """Names of the models that built the data sets on the page."""
    names: set[str] = set()
    for bench in runs.benches:
        names |= {*bench.dataset.get("generators", ()), *evaluators(bench)}
    for build in runs.builds:
        roles = _settings(build.manifest, "roles")
        for value in roles.values() if isinstance(roles, Mapping) else ():
            for model in value if isinstance(value, list) else [value]:
                if isinstance(model, Mapping):
                    names.add(str(model.get("model", "")))
    return names - {""}


def _settings(manifest: Mapping[str, Any], *path: str) -> Any:
    value: Any = manifest.get("settings", {})
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _listed(names: Sequence[str]) -> str:
    """Names in a row, as one writes them.

    >>> _listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
