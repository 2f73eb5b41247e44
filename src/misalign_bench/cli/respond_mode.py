"""``misalign-bench bench --mode respond``: the targets answer, a panel of judges gives verdicts.

What is measured and what the numbers mean: ``docs/respond.md``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from misalign_bench.cli.running import argv, dumped, fetch_weights, with_clients
from misalign_bench.errors import UserError

if TYPE_CHECKING:
    from misalign_bench.bench.respond_measure import Responded
    from misalign_bench.bench.results import Setting
    from misalign_bench.cli.progress import Progress
    from misalign_bench.config import BenchSettings, BudgetSettings


def refuse_unfit(settings: BenchSettings) -> None:
    """Refuse settings that the mode has no use for, before anything starts.

    Raises:
        UserError: judges without ``respond``, or ``respond`` with what belongs to ``detect``.
    """
    if settings.mode == "detect":
        if settings.judges:
            raise UserError(
                "judges have nothing to do in mode detect, where the targets judge",
                where="bench",
                mend="Add --mode respond, or leave --judge out",
            )
        return
    if not settings.judges:
        raise UserError(
            "mode respond needs a judge", where="bench", mend="Name one or more: --judge MODEL"
        )
    of_detect = {
        "conditions": settings.conditions != ("joint",),
        "grain": settings.grain != "pair",
        "until": settings.until is not None,
        "framings": bool(settings.framings),
    }
    for name, given in of_detect.items():
        if given:
            raise UserError(
                f"{name} is for mode detect",
                where="bench",
                mend="Leave it out, or use --mode detect",
            )


def respond_into(
    out: Path,
    dataset: Path,
    settings: BenchSettings,
    budget: BudgetSettings,
    arguments: argparse.Namespace,
    progress: Progress,
) -> dict[str, Any]:
    """Run the mode into a folder; returns what ``results.json`` holds."""
    from misalign_bench.bench.respond_files import (
        PANEL,
        RESPONSES,
        write_panel,
        write_responses,
    )
    from misalign_bench.bench.respond_measure import respond_measure
    from misalign_bench.bench.responses import prompts_of
    from misalign_bench.bench.results import Setting, write_results
    from misalign_bench.journal.folder import RunFolder
    from misalign_bench.suites.savacu import limited, load_suite

    suite = load_suite(dataset, settings.splits)
    prompts = limited(prompts_of(suite.items), arguments.limit, arguments.seed)
    models = [*settings.targets, *settings.judges]
    fetch_weights([one.model for one in models], arguments.quiet)
    setting = Setting(
        dataset=suite.name,
        content_hash=suite.content_hash,
        splits=suite.splits,
        seed=arguments.seed,
        limit=arguments.limit,
        resamples=settings.resamples,
        interval=settings.interval,
        simulated=suite.simulated,
        shared_roles=settings.allow_shared_roles,
    )
    with RunFolder.open(out, command=argv(), settings_dump=dumped(settings)) as folder:
        folder.manifest.describe(seeds={"run": arguments.seed})
        folder.manifest.stage("suite", {"prompts": len(prompts)})
        done, usage = with_clients(
            folder,
            models,
            budget,
            arguments.seed,
            arguments,
            lambda clients: respond_measure(clients, prompts, settings, arguments.seed, progress),
        )
        setting = replace(setting, totals=usage, **_facts(settings, setting, done))
        table = _results(prompts, done, setting, settings)
        answers = done.responding.answers
        folder.write_atomic(RESPONSES, lambda path: write_responses(path, prompts, answers))
        folder.write_atomic(PANEL, lambda path: write_panel(path, prompts, answers, done.panel))
        folder.write_atomic("results.json", lambda path: write_results(path, table))
        folder.manifest.describe(templates=dict(setting.templates))
        folder.manifest.stage("results", {"targets": len(settings.targets)})
    return table


def _results(
    prompts: list[Any], done: Responded, setting: Setting, settings: BenchSettings
) -> dict[str, Any]:
    from misalign_bench.bench.respond_results import RespondSetting, respond_results

    resting = RespondSetting(
        setting=setting,
        panel=done.panel,
        sampling={target.name: target.sampling for target in done.targets},
        calibrations=done.calibrations,
        probes=done.probes,
        wanted=settings.panel.probes,
    )
    return respond_results(prompts, done.responding, resting)


def _facts(settings: BenchSettings, setting: Setting, done: Responded) -> dict[str, Any]:
    """What the results say of models and templates besides the numbers."""
    from misalign_bench.prompts.loader import template

    models = [target.client.model for target in done.targets]
    names = {judge.template.partition("@")[0] for judge in done.panel.judges}
    simulated = [one.simulated for one in models]
    simulated += [judge.simulated for judge in done.panel.judges]
    return {
        "simulated": setting.simulated or any(simulated),
        "templates": {name: template(name).digest for name in sorted(names)},
        "targets": {
            model.name: {"category": one.category, "simulated": model.simulated}
            for model, one in zip(models, settings.targets, strict=True)
        },
    }


def print_rates(found: Mapping[str, Any]) -> None:
    """The joint rates of every target, and how far the judges agree."""
    from misalign_bench.cli.render import estimate, table

    rows = []
    for target in found["respond"]["targets"]:
        joint, refusal = target["joint"], target["refusal"]
        alpha = target["agreement"].get("joint", {}).get("alpha")
        bounds = _between(joint["best_case"], joint["value"])
        counts = [target["responses"]["asked"], joint["n"] - joint["n_scored"]]
        rows.append([target["name"], estimate(joint), bounds, estimate(refusal), alpha, *counts])
    names = ["target", "misaligned", "bounds", "refusals", "alpha", "responses", "unscored"]
    table(rows, names)


def _between(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
