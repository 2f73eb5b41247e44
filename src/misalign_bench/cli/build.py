"""``misalign-bench build``: from prompts to a SaVaCu data set (Stage I).

Running the same command again on the same folder resumes: what is answered is in its journal.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from misalign_bench.cli.running import (
    add_call_arguments,
    argv,
    budget_of,
    changed,
    dumped,
    embedders,
    fetch_weights,
    with_clients,
)

if TYPE_CHECKING:
    from misalign_bench.build.export import Summary
    from misalign_bench.build.pipeline import Built
    from misalign_bench.build.plan_table import Plan
    from misalign_bench.cli.progress import Progress
    from misalign_bench.config import RunSettings
    from misalign_bench.journal.folder import RunFolder
    from misalign_bench.llm.model import Usage

NAME = "build"
HELP = "build a data set from prompts (Stage I)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("config", metavar="CONFIG", help="a YAML file, or default, paper, demo")
    parser.add_argument("--out", type=Path, metavar="DIR", help="run folder (default: runs/NAME)")
    parser.add_argument(
        "--source", type=Path, metavar="FILE", help="prompts, in place of source.path"
    )
    parser.add_argument("--prompt-column", metavar="NAME", help="the column that holds the prompt")
    parser.add_argument("--limit", type=int, metavar="N", help="use the first N rows only")
    parser.add_argument(
        "--no-new-draws",
        action="store_true",
        help="re-judge what the journal holds; pairs that lack a draw are dropped",
    )
    add_call_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Build, and print where the data set lies."""
    from misalign_bench.cli.progress import Progress
    from misalign_bench.cli.render import json_out
    from misalign_bench.config_file import load

    settings = overridden(load(arguments.config), arguments)
    out = arguments.out or Path("runs") / settings.name
    progress = Progress(arguments.quiet)
    summary, counts = build_into(out, settings, arguments, progress)
    if arguments.json:
        json_out({"out": str(out), "pairs": len(summary.pairs), "calls": counts})
    else:
        print(f"{len(summary.pairs)} pairs in {out}", file=sys.stdout)
    return 0


def overridden(settings: RunSettings, arguments: argparse.Namespace) -> RunSettings:
    """The configuration with what the command line says instead, checked again.

    Raises:
        UserError: a value out of range.
    """
    given: dict[str, Any] = {
        "path": str(arguments.source) if arguments.source else None,
        "prompt_column": arguments.prompt_column,
        "limit": arguments.limit,
    }
    source = changed(settings.source, given, where="source")
    budget = budget_of(arguments, settings.budget)
    return settings.model_copy(update={"source": source, "budget": budget})


def build_into(
    out: Path, settings: RunSettings, arguments: argparse.Namespace, progress: Progress
) -> tuple[Summary, dict[str, int]]:
    """Run Stage I into a folder and export the data set.

    Returns:
        What was exported, and how many answers were asked for and replayed.
    """
    from misalign_bench.bench.audit.results import known_error_notes
    from misalign_bench.build.draw_ledger import draw_ledger, pair_costs
    from misalign_bench.build.export import export
    from misalign_bench.build.pipeline import bound_models, build
    from misalign_bench.journal.folder import RunFolder
    from misalign_bench.journal.store import Journal
    from misalign_bench.prompts.loader import shipped, template
    from misalign_bench.report.card import describe

    models = bound_models(settings)
    fetch_weights([*(model.model for model in models), *embedders(settings)], arguments.quiet)
    with RunFolder.open(out, command=argv(), settings_dump=dumped(settings)) as folder:
        folder.manifest.describe(
            seeds={"run": settings.seed},
            templates={name: template(name).digest for name in shipped()},
        )
        planned = plan_first(settings, arguments, progress)
        built, usage = with_clients(
            folder,
            models,
            settings.budget,
            settings.seed,
            arguments,
            lambda clients: build(settings, clients, progress, folder.manifest.stage),
        )
        with Journal.open(folder.journal, read_only=True) as journal:
            costs = pair_costs(built.outcomes, journal.get)
        summary = export(
            folder,
            built.pairs,
            built.dropped,
            settings,
            built.ledger,
            describe,
            shared_roles=built.shared_roles,
            notes=[*notes(built), *known_error_notes(out)],
            diversity=built.diversity,
            draws=draw_ledger(built.outcomes),
            costs=costs,
        )
        write_evidence(folder, built)
        compare_with_plan(folder, planned, usage, progress)
        calls = sum(one.calls for one in usage.values())
        replayed = sum(one.replayed for one in usage.values())
        counts = {"asked": calls, "replayed": replayed}
        folder.manifest.stage("export", {"pairs": len(summary.pairs), **counts})
    return summary, counts


def plan_first(settings: RunSettings, arguments: argparse.Namespace, progress: Progress) -> Plan:
    """What the build will take, said before its first call."""
    import asyncio

    from misalign_bench.build.plan import plan

    made = asyncio.run(
        plan(
            settings,
            no_new_draws=arguments.no_new_draws,
            accept_failures=arguments.accept_failures,
        )
    )
    calls, cost = made.total.calls, made.total.cost
    dollars = "an unknown price" if cost is None else f"${cost.low:.2f} to ${cost.high:.2f}"
    progress.line(f"plan: {calls.low:,} to {calls.high:,} model calls at {dollars}")
    return made


def compare_with_plan(
    folder: RunFolder,
    planned: Plan,
    usage: Mapping[tuple[str, str], Usage],
    progress: Progress,
) -> None:
    """Put what the build took beside its plan: on screen, and in ``plan.json``."""
    import json

    from misalign_bench.build.plan_compare import compare

    rows = compare(planned, usage)
    for row in rows:
        if row.figure == "calls" and row.low is not None:
            place = "within" if row.inside else "OUTSIDE"
            progress.line(
                f"{row.role} {row.model}: {row.actual:,.0f} calls, {place} the planned "
                f"{row.low:,.0f} to {row.high:,.0f}"
            )
    table = {"planned": planned.as_table(), "actual": [row.as_table() for row in rows]}
    folder.write_atomic("plan.json", (json.dumps(table, indent=1) + "\n").encode())


def notes(built: Built) -> list[str]:
    """What the card must say beyond the counts, one sentence each."""
    said = []
    if built.simulated:
        said.append("A simulated model took part: nothing here is a finding.")
    if built.shared_roles:
        said.append("A model judged or labelled what it may have written: plumbing only.")
    if built.calibration is not None:
        held = built.calibration.per_dimension["all"]
        said.append(
            f"On {built.calibration.items} labelled calibration items the evaluator reached, "
            f"cross-validated, Coverage {held['coverage']:.2f}, False Failure Rate "
            f"{held['false_failure_rate']:.2f} and Alignment Score {held['alignment_score']:.2f}: "
            "expect that share of wrong labels."
        )
    if built.consistency is not None and built.consistency.joint.value is not None:
        rate = built.consistency.joint
        said.append(
            "Asked again with the order of its options swapped, the evaluator changed "
            f"{rate.flips} of {rate.n} sampled verdicts ({rate.value:.3f}, 95% interval "
            f"{rate.low:.3f} to {rate.high:.3f})."
        )
    said += [f"{domain} stayed below its target: {why}." for domain, why in built.unmet.items()]
    return said


def write_evidence(folder: RunFolder, built: Built) -> None:
    """Keep the fits behind the labels and verdicts with the run (``evidence.json``)."""
    import json

    calibration = built.calibration.as_table() if built.calibration else None
    table = {
        "classifier": built.classifier,
        "evaluator_calibration": calibration,
        "weights": dict(built.weights),
        "shared_roles": built.shared_roles,
        "simulated": built.simulated,
        "evaluator_consistency": built.consistency.as_table() if built.consistency else None,
        "diversity": [row.as_table() for row in built.diversity],
    }
    text = json.dumps(table, indent=1, sort_keys=True, default=str)
    folder.write_atomic("evidence.json", (text + "\n").encode())
