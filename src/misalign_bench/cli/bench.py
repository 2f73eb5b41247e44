"""``misalign-bench bench``: measure models, judges and guardrails on a data set (Stage II).

Coverage, False Failure Rate and Alignment Score, jointly, per dimension and per domain, with
intervals. Running the same command again resumes.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from misalign_bench.cli.framings import (
    ALL,
    choosing_for,
    measured,
    print_framings,
    write_extra_verdicts,
)
from misalign_bench.cli.respond_mode import print_rates, refuse_unfit, respond_into
from misalign_bench.cli.running import (
    add_call_arguments,
    argv,
    budget_of,
    dumped,
    fetch_weights,
    with_clients,
)

if TYPE_CHECKING:
    from misalign_bench.cli.progress import Progress
    from misalign_bench.config import BenchSettings, BudgetSettings
    from misalign_bench.judge.calibration import Calibration
    from misalign_bench.judge.judge import Judge

NAME = "bench"
HELP = "measure models, judges and guardrails on a data set (Stage II)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="a data set folder or file")
    parser.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="MODEL",
        help="openai/NAME@URL, embedded/NAME, simulated/… or inspect/…; may be given again",
    )
    parser.add_argument(
        "--mode",
        choices=("detect", "respond"),
        help="the targets judge the responses of the data set, or answer its prompts themselves"
        " and are judged (default: detect)",
    )
    parser.add_argument(
        "--judge",
        action="append",
        default=[],
        metavar="MODEL",
        help="who judges what the targets answer (respond); may be given again",
    )
    parser.add_argument(
        "--rule",
        choices=("majority", "unanimity"),
        help="how the verdicts of several judges become one (respond; default: majority)",
    )
    parser.add_argument(
        "--probes",
        type=int,
        metavar="N",
        help="judge N answers again, swapped and padded, for position and length bias (respond)",
    )
    parser.add_argument(
        "--allow-one-family",
        action="store_true",
        help="let all judges be of one model family (respond; marks the results)",
    )
    parser.add_argument("--config", metavar="CONFIG", help="a YAML file whose bench: table is used")
    parser.add_argument(
        "--split",
        action="append",
        choices=("train", "validation", "test", "all"),
        help="splits to bench (default: test)",
    )
    parser.add_argument("--epochs", type=int, metavar="N", help="times each item is asked")
    parser.add_argument(
        "--condition",
        action="append",
        choices=("joint", "safety", "value", "culture"),
        help="what one question covers (default: joint)",
    )
    parser.add_argument(
        "--framing",
        choices=(*ALL, "all"),
        help="wording of log-probability questions (default: few_shot); all: each of them, the best"
        " chosen on the validation split",
    )
    parser.add_argument(
        "--method",
        choices=("auto", "structured", "logprob", "completion", "guardrail", "reward"),
        help="written verdicts, log-probabilities (completion: without chat template, for base"
        " models), a guardrail's own format, or a reward model's score (default: auto)",
    )
    parser.add_argument(
        "--choose-on",
        choices=("validation", "calibration_set"),
        help="what the best framing and a reward's threshold are chosen on (default: validation)",
    )
    parser.add_argument(
        "--grain",
        choices=("pair", "paper"),
        help="count a response once, or once for each domain of its prompt (default: pair)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="bench N items only (marked)")
    parser.add_argument(
        "--until",
        type=float,
        metavar="WIDTH",
        help="stop once every Alignment Score is known to within WIDTH, for example 0.01 (marked)",
    )
    parser.add_argument(
        "--interval",
        choices=("bca", "percentile"),
        help="kind of bootstrap interval (default: bca)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of calls and resamples (default: 0)"
    )
    parser.add_argument(
        "--allow-shared-roles",
        action="store_true",
        help="let the evaluator of the data be a target (marks the results)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="run folder (default: runs/bench-NAME)"
    )
    add_call_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Bench, and print the leaderboard."""
    from misalign_bench.cli.progress import Progress
    from misalign_bench.cli.render import json_out
    from misalign_bench.config import BenchSettings, BudgetSettings
    from misalign_bench.config_file import load
    from misalign_bench.errors import UserError

    loaded = load(arguments.config) if arguments.config else None
    settings = overridden(loaded.bench if loaded else BenchSettings(), arguments)
    budget = budget_of(arguments, loaded.budget if loaded else BudgetSettings())
    answers = settings.mode == "respond"
    stem = arguments.dataset.stem or "data"
    out = arguments.out or Path("runs") / f"{'respond' if answers else 'bench'}-{stem}"
    if out.resolve() == arguments.dataset.resolve():
        raise UserError("the run needs a folder of its own", where=str(out), mend="Name it: --out")
    progress = Progress(arguments.quiet)
    into = respond_into if answers else bench_into
    found = into(out, arguments.dataset, settings, budget, arguments, progress)
    if arguments.json:
        json_out(found)
    else:
        (print_rates if answers else print_leaderboard)(found)
        if found.get("framings"):
            print_framings(found["framings"])
        print(f"results in {out}")
    return 0


def overridden(settings: BenchSettings, arguments: argparse.Namespace) -> BenchSettings:
    """The settings with what the command line says instead, checked again.

    Raises:
        UserError: no target, or a value out of range.
    """
    from pydantic import ValidationError

    from misalign_bench.config import BenchSettings
    from misalign_bench.config_file import explain
    from misalign_bench.errors import UserError

    table = settings.model_dump()
    every = arguments.framing == "all"
    judge = {"framing": None if every else arguments.framing, "method": arguments.method}
    asked = table["panel"]["verdict"] if _answers(settings, arguments) else table["judge"]
    asked |= {name: value for name, value in judge.items() if value is not None}
    panel = {"rule": arguments.rule, "probes": arguments.probes}
    panel |= {"one_family": arguments.allow_one_family or None}
    table["panel"] |= {name: value for name, value in panel.items() if value is not None}
    splits = arguments.split
    given: dict[str, Any] = {
        "mode": arguments.mode,
        "judges": arguments.judge or None,
        "targets": arguments.target or None,
        "splits": ["train", "validation", "test"] if splits and "all" in splits else splits,
        "epochs": arguments.epochs,
        "conditions": arguments.condition,
        "grain": arguments.grain,
        "until": arguments.until,
        "interval": arguments.interval,
        "framings": ALL if every else None,
        "choose_on": arguments.choose_on,
        "allow_shared_roles": arguments.allow_shared_roles or None,
    }
    table |= {name: value for name, value in given.items() if value is not None}
    try:
        changed = BenchSettings.model_validate(table)
    except ValidationError as error:
        raise UserError(explain(error), where="bench") from None
    if not changed.targets:
        raise UserError("no target to bench", mend="Name one: --target openai/NAME@URL")
    refuse_unfit(changed)
    if every and changed.mode == "respond":
        raise UserError("--framing all measures targets as judges", mend="Drop --mode respond")
    if changed.until is not None and arguments.limit is not None:
        raise UserError("--limit and --until both say how much to bench", mend="Give one of them")
    if changed.until is not None and not changed.resamples:
        raise UserError("--until needs intervals", mend="Set bench.resamples above 0")
    return changed


def _answers(settings: BenchSettings, arguments: argparse.Namespace) -> bool:
    """Whether the targets answer, so that wording and method are the judges'."""
    return (arguments.mode or settings.mode) == "respond"


def bench_into(
    out: Path,
    dataset: Path,
    settings: BenchSettings,
    budget: BudgetSettings,
    arguments: argparse.Namespace,
    progress: Progress,
) -> dict[str, Any]:
    """Run Stage II into a folder; returns what ``results.json`` holds."""
    from misalign_bench.bench.framing import framing_results
    from misalign_bench.bench.results import Setting, check_grain, results, write_results
    from misalign_bench.bench.verdicts import write_verdicts
    from misalign_bench.journal.folder import RunFolder
    from misalign_bench.suites.savacu import limited, load_suite

    suite = load_suite(dataset, settings.splits)
    items = limited(suite.items, arguments.limit, arguments.seed)
    check_grain(items, settings.grain)
    choosing = choosing_for(dataset, settings, arguments.limit, arguments.seed)
    fetch_weights([target.model for target in settings.targets], arguments.quiet)
    setting = Setting(
        dataset=suite.name,
        content_hash=suite.content_hash,
        splits=suite.splits,
        seed=arguments.seed,
        limit=arguments.limit,
        grain=settings.grain,
        resamples=settings.resamples,
        interval=settings.interval,
        evaluator=", ".join(suite.evaluators),
        shared_roles=settings.allow_shared_roles,
    )
    with RunFolder.open(out, command=argv(), settings_dump=dumped(settings)) as folder:
        folder.manifest.describe(seeds={"run": arguments.seed})
        folder.manifest.stage("suite", {"items": len(items)})
        (done, asked), usage = with_clients(
            folder,
            settings.targets,
            budget,
            arguments.seed,
            arguments,
            lambda clients: measured(
                clients, items, suite.evaluators, settings, setting, progress, choosing
            ),
        )
        templates = _templates([*done.judges, *(asked.judges if asked else ())])
        table = results(
            done.items,
            done.detection,
            replace(
                setting,
                simulated=suite.simulated or any(judge.simulated for judge in done.judges),
                until=done.until,
                templates=templates,
                totals=usage,
                targets=_facts(settings, done.judges, done.fits),
            ),
        )
        table["framings"] = framing_results(done, asked, setting) if asked else []
        said = done.detection.measurements
        folder.write_atomic("verdicts.parquet", lambda path: write_verdicts(path, done.items, said))
        write_extra_verdicts(folder, done, asked, choosing)
        folder.write_atomic("results.json", lambda path: write_results(path, table))
        folder.manifest.describe(templates=templates)
        folder.manifest.stage("results", {"targets": len(settings.targets)})
    return table


def _templates(judges: Sequence[Judge]) -> dict[str, str]:
    from misalign_bench.prompts.loader import template

    used = {judge.template.partition("@")[0] for judge in judges}
    return {name: template(name).digest for name in sorted(used)}


def _facts(
    settings: BenchSettings, judges: list[Judge], fits: Mapping[str, Calibration]
) -> dict[str, dict[str, Any]]:
    """What the page shows of a target besides its numbers."""
    from misalign_bench.records import DIMENSIONS

    return {
        judge.name: {
            "category": target.category,
            "simulated": judge.simulated,
            "method": judge.method,
            "template": judge.template,
            "covers": list(getattr(judge, "covers", DIMENSIONS)),
            "calibration": fits[judge.name].as_table() if judge.name in fits else None,
        }
        for judge, target in zip(judges, settings.targets, strict=True)
    }


def print_leaderboard(found: Mapping[str, Any]) -> None:
    """The joint numbers of every target and condition."""
    from misalign_bench.cli.render import estimate, table

    rows = []
    for target in found["targets"]:
        for condition in target["conditions"]:
            joint = condition["joint"]
            names = ("coverage", "false_failure_rate", "alignment_score")
            cells = [estimate(joint[name]) for name in names]
            n = joint["coverage"]["n"] + joint["false_failure_rate"]["n"]
            rows.append([target["name"], condition["condition"], *cells, n])
    table(rows, ["target", "condition", "Coverage", "FFR", "AS", "n"])
