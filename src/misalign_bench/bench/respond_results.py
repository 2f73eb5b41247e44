"""The numbers of ``mode: respond`` in ``results.json``: its block ``respond``.

``targets[]`` hold the rates of misalignment and refusal as ``records.Score`` (headline: unscored
counts as misaligned; ``respond_rates``), the outcomes counted, each judge's own rates, and how far
the judges agree on this target. ``agreement`` is that over all targets, ``probes`` what position
and length do to each judge. The rest of the file is as in ``results``, its ``targets`` empty.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from misalign_bench.bench.metrics import Place, Share
from misalign_bench.bench.panel_agreement import agreement
from misalign_bench.bench.probes import Probed
from misalign_bench.bench.respond import Answers, Responding
from misalign_bench.bench.respond_rates import (
    joint_by_epoch,
    misalignment,
    misalignment_by_judge,
)
from misalign_bench.bench.responses import OUTCOMES, Response
from misalign_bench.bench.results import Setting, header
from misalign_bench.bench.statistics import Bootstrap
from misalign_bench.bench.table import ItemTable
from misalign_bench.judge.judge import Judge
from misalign_bench.judge.model_family import model_family
from misalign_bench.judge.panel import Panel, covers
from misalign_bench.llm.model import Sampling
from misalign_bench.records import Item


@dataclass(frozen=True, slots=True)
class RespondSetting:
    """What the numbers rest on besides answers and verdicts.

    Attributes:
        setting: what every bench has; ``targets`` holds further facts about a target by name.
        sampling: of each target, by name.
        calibrations: of the judges whose thresholds were fitted, by name.
        wanted: how many responses the probes were to take.
    """

    setting: Setting
    panel: Panel
    sampling: Mapping[str, Sampling] = field(default_factory=dict)
    calibrations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    probes: tuple[Probed, ...] = ()
    wanted: int = 0


def respond_results(
    prompts: Sequence[Item], responding: Responding, resting: RespondSetting
) -> dict[str, Any]:
    """Compute every number of a run.

    Raises:
        Unfinished: answers or verdicts are missing.
    """
    responding.refuse_pending()
    table = ItemTable.of(prompts)
    everyone = [one for answers in responding.answers for one in answers.responses]
    shown = header(prompts, table, resting.setting)
    dataset = {k: shown["dataset"][k] for k in ("name", "content_hash", "items", "clusters")}
    return shown | {
        "mode": "respond",
        "dataset": dataset | {"generators": []},
        "targets": [],
        "comparisons": {},
        "respond": {
            "panel": _panel(resting),
            "targets": [_target(table, one, resting) for one in responding.answers],
            "agreement": _agreement(table, everyone, resting),
            "probes": {
                "wanted": resting.wanted,
                "judges": [one.as_table() for one in resting.probes],
            },
        },
    }


def _panel(resting: RespondSetting) -> dict[str, Any]:
    panel = resting.panel
    return {
        "rule": panel.rule,
        "one_family": panel.one_family,
        "dimensions": list(panel.dimensions),
        "judges": [_judge(one, resting.calibrations) for one in panel.judges],
    }


def _judge(judge: Judge, calibrations: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "name": judge.name,
        "weights": judge.weights,
        "family": model_family(judge.name),
        "method": judge.method,
        "framing": judge.framing,
        "template": judge.template,
        "thresholds": dict(judge.thresholds) if judge.thresholds else None,
        "deterministic": judge.deterministic,
        "simulated": judge.simulated,
        "covers": list(covers(judge)),
        "calibration": calibrations.get(judge.name),
    }


def _target(table: ItemTable, answers: Answers, resting: RespondSetting) -> dict[str, Any]:
    setting, held = resting.setting, answers.responses
    counts = Counter(one.outcome for one in held)
    sampling = resting.sampling.get(answers.target)
    shown = f"epochs: {answers.epochs}"
    by_judge = {
        judge.name: misalignment_by_judge(table, held, seat)
        for seat, judge in enumerate(resting.panel.judges)
    }
    ours, *of_judges = _scored(table, [misalignment(table, held), *by_judge.values()], setting)
    return {
        "name": answers.target,
        "weights": answers.weights,
        "family": model_family(answers.target),
        **setting.targets.get(answers.target, {}),
        "sampling": None if sampling is None else asdict(sampling),
        "deterministic": answers.deterministic,
        "epochs": answers.epochs,
        "epochs_shown": f"{shown} (deterministic)" if answers.deterministic else shown,
        "self_judged": list(answers.self_judged),
        "responses": {"asked": len(held)}
        | {outcome: counts[outcome] for outcome in OUTCOMES}
        | {"cut": sum(one.cut for one in held)},
        "dimension": {},
        "domain": {},
        "by_active": {},
        **ours,
        "per_epoch": joint_by_epoch(table, held),
        "judges": dict(zip(by_judge, of_judges, strict=True)),
        "agreement": _agreement(table, held, resting),
    }


def _scored(
    table: ItemTable, cells: Sequence[Mapping[Place, Share]], setting: Setting
) -> list[dict[str, Any]]:
    """Every share with its interval, at its place, all over the same resamples."""
    bootstrap = Bootstrap(
        table.cluster, table.clusters, setting.resamples, setting.seed, method=setting.interval
    )
    _, scores = bootstrap.scores((), [share for one in cells for share in one.values()])
    rest = iter(scores)
    blocks = []
    for one in cells:
        block: dict[str, Any] = {}
        for place in one:
            inside = block
            for name in place[:-1]:
                inside = inside.setdefault(name, {})
            inside[place[-1]] = asdict(next(rest))
        blocks.append(block)
    return blocks


def _agreement(
    table: ItemTable, responses: Sequence[Response], resting: RespondSetting
) -> dict[str, Any]:
    found = agreement(
        resting.panel,
        responses,
        table.cluster,
        table.clusters,
        resamples=resting.setting.resamples,
        seed=resting.setting.seed,
    )
    return {name: asdict(one) for name, one in found.items()}
