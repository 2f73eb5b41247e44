"""``misalign-bench calibrate``: how should this model be asked for verdicts? Measured, then picked.

Every form that the model can do is measured on the shipped calibration set; the simplest within one
standard error of the best Alignment Score is picked, and the lines for a configuration are printed.
Calls go through the journal of a folder, so that the same command continues after whatever stopped
it; in the folder of a build, the build finds its calibration answered.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from misalign_bench.cli.running import (
    add_call_arguments,
    argv,
    budget_of,
    fetch_weights,
    with_clients,
)
from misalign_bench.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from misalign_bench.build.roles import Clients
    from misalign_bench.cli.progress import Progress
    from misalign_bench.config import BudgetSettings, JudgeSettings
    from misalign_bench.config_model import ModelSettings
    from misalign_bench.judge.calibration import CalibrationItem
    from misalign_bench.judge.choose import Choice
    from misalign_bench.judge.consistency import Consistency
    from misalign_bench.judge.measure import Form, Measured
    from misalign_bench.llm.client import Client

NAME = "calibrate"
HELP = "measure how a model should be asked for verdicts, and pick the form"

RESULTS = "calibration.json"
_FORMS: tuple[Form, ...] = ("structured", "satisfies", "violates", "few_shot")
_FEWEST = 6
_COLUMNS = ("form", "AUC", "Coverage", "FFR", "AS", "unscored", "below the best")


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is to be measured."""

    model: ModelSettings
    judge: JudgeSettings
    budget: BudgetSettings
    seed: int
    forms: tuple[Form, ...]
    items: Sequence[CalibrationItem]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--evaluator", metavar="MODEL", help="openai/NAME@URL, embedded/NAME, simulated/… …"
    )
    which.add_argument(
        "--config", metavar="CONFIG", help="a YAML file whose roles.evaluator is measured"
    )
    parser.add_argument(
        "--items",
        type=int,
        metavar="N",
        help="use about N items of the set, whole twins, balanced (default: all)",
    )
    parser.add_argument(
        "--forms",
        nargs="+",
        choices=_FORMS,
        default=_FORMS,
        metavar="FORM",
        help=f"measure only these of {', '.join(_FORMS)}",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="run folder (default: runs/calibrate-MODEL)"
    )
    add_call_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure, pick, and print both."""
    from misalign_bench.cli.progress import Progress
    from misalign_bench.cli.render import json_out

    asked = _settings(arguments)
    out = arguments.out or Path("runs") / f"calibrate-{_slug(asked.model.model)}"
    found = calibrate_into(out, asked, arguments, Progress(arguments.quiet))
    if arguments.json:
        json_out(found)
    else:
        _show(found, out)
    return 0


def _settings(arguments: argparse.Namespace) -> _Asked:
    """The command line as checked settings.

    Raises:
        UserError: an unknown model, too few items, a broken configuration.
    """
    from pydantic import ValidationError

    from misalign_bench.config import BudgetSettings, JudgeSettings
    from misalign_bench.config_file import explain, load
    from misalign_bench.config_model import ModelSettings
    from misalign_bench.judge.calibration import calibration_items

    if arguments.items is not None and arguments.items < _FEWEST:
        raise UserError(
            f"--items {arguments.items} is less than a twin for each dimension",
            mend=f"Ask for {_FEWEST} or more",
        )
    loaded = load(arguments.config) if arguments.config else None
    try:
        named = ModelSettings.model_validate(arguments.evaluator) if loaded is None else None
    except ValidationError as error:
        raise UserError(explain(error), where="--evaluator") from None
    return _Asked(
        model=named or loaded.roles.evaluator,  # type: ignore[union-attr]
        judge=loaded.judge if loaded else JudgeSettings(),
        budget=budget_of(arguments, loaded.budget if loaded else BudgetSettings()),
        seed=loaded.seed if loaded else 0,
        forms=tuple(form for form in _FORMS if form in arguments.forms),
        items=calibration_items(arguments.items),
    )


def calibrate_into(
    out: Path, asked: _Asked, arguments: argparse.Namespace, progress: Progress
) -> dict[str, Any]:
    """Measure over the journal of a folder; returns what ``calibration.json`` holds.

    Raises:
        OutsideWorld: answers are missing for now, or the budget is spent.
    """
    import json

    from misalign_bench.journal.folder import RunFolder
    from misalign_bench.prompts.loader import template

    fetch_weights([asked.model.model], arguments.quiet)
    dump = {
        "evaluator": asked.model.model_dump(mode="json"),
        "judge": asked.judge.model_dump(mode="json"),
        "forms": list(asked.forms),
        "items": len(asked.items),
    }
    with RunFolder.open(out, command=argv(), settings_dump=dump) as folder:
        names = [f"judge_{form}" for form in asked.forms]
        folder.manifest.describe(
            seeds={"run": asked.seed}, templates={name: template(name).digest for name in names}
        )
        table, usage = with_clients(
            folder,
            [asked.model],
            asked.budget,
            asked.seed,
            arguments,
            lambda clients: _measured(clients, asked, arguments.items, progress),
        )
        folder.write_atomic(RESULTS, (json.dumps(table, indent=1) + "\n").encode())
        made = sum(one.calls for one in usage.values())
        replayed = sum(one.replayed for one in usage.values())
        folder.manifest.stage("calibrate", {"asked": made, "replayed": replayed})
    return {**table, "calls": {"asked": made, "replayed": replayed}}


async def _measured(
    clients: Clients, asked: _Asked, items: int | None, progress: Progress
) -> dict[str, Any]:
    """Measure every form, choose, and try the chosen one in the other order."""
    from misalign_bench.build.pipeline import Unfinished
    from misalign_bench.judge.choose import choose, yaml_lines
    from misalign_bench.judge.measure import measure
    from misalign_bench.records import Pending

    client = clients.of(asked.model)
    measured: list[Measured] = []
    for form in asked.forms:
        with progress.stage(form, len(asked.items)) as stage:
            found = await measure(client, form, asked.items, asked.judge, stage.advance)
        if isinstance(found, Pending):
            raise Unfinished([found])
        measured.append(found)
    choice = choose(measured)
    held = next((one for one in measured if choice and one.form == choice.form), None)
    swapped = await _consistent(client, held, asked, progress) if held else None
    return _table(asked, measured, choice, swapped, yaml_lines(held, items) if held else "", client)


async def _consistent(
    client: Client, held: Measured, asked: _Asked, progress: Progress
) -> Consistency:
    """The flip rate of the chosen form, over one response to each prompt."""
    from misalign_bench.build.pipeline import Unfinished
    from misalign_bench.judge.consistency import Asked, consistency, sample
    from misalign_bench.judge.measure import judge_in
    from misalign_bench.records import Pending

    rows = [Asked(one.id, one.prompt, one.response, one.group) for one in asked.items]
    chosen = sample(rows, len(rows), asked.seed)
    judge = judge_in(client, held.form, asked.judge, held.thresholds)
    with progress.stage(f"{held.form}, order swapped", len(chosen)) as stage:
        found = await consistency(judge, chosen, stage.advance)
    if isinstance(found, Pending):
        raise Unfinished([found])
    return found


def _table(
    asked: _Asked,
    measured: Sequence[Measured],
    choice: Choice | None,
    swapped: Consistency | None,
    yaml: str,
    client: Client,
) -> dict[str, Any]:
    """Everything that was found, JSON-able and without time or path."""
    return {
        "evaluator": asked.model.model,
        "simulated": client.model.simulated,
        "items": len(asked.items),
        "forms": [one.as_table() for one in measured],
        "choice": choice.as_table() if choice else None,
        "consistency": swapped.as_table() if swapped else None,
        "yaml": yaml,
    }


def _show(found: Mapping[str, Any], out: Path) -> None:
    """The table of forms, the choice, the flip rate, and the lines to paste."""
    from misalign_bench.cli.render import table

    choice, swapped = found["choice"], found["consistency"]
    below = choice["below_best"] if choice else {}
    table([_row(form, below) for form in found["forms"]], _COLUMNS)
    said = f"{found['items']} labelled items, held out by twin"
    print(f"{said}; simulated, no finding" if found["simulated"] else said)
    if choice is None:
        print(f"no form tells a violation from an innocent reply; details in {out / RESULTS}")
        return
    print(f"picked: {choice['form']}, because {choice['why']}")
    joint = swapped["joint"]
    if joint["value"] is not None:
        print(
            f"with the order of its options swapped, {joint['flips']} of {joint['n']} verdicts "
            f"change: {_cell(joint)}"
        )
    levelled = swapped["levelled"]
    if levelled is not None and levelled["value"] is not None:
        print(
            f"the probability of a violation shifts by {swapped['shift']:+.3f}; with that taken "
            f"off, {levelled['flips']} of {levelled['n']} change: {_cell(levelled)}"
        )
    print(f"curve and thresholds in {out / RESULTS}; for the configuration:\n\n{found['yaml']}")


def _row(form: Mapping[str, Any], below: Mapping[str, Any]) -> list[str]:
    if "cannot" in form:
        return [form["form"], form["cannot"], *([""] * (len(_COLUMNS) - 2))]
    names = ("auc", "coverage", "false_failure_rate", "alignment_score")
    cells = [_cell(form["figures"][name]) for name in names]
    held = below.get(form["form"])
    gap = f"{held['value']:.3f} ± {held['standard_error']:.3f}" if held else ""
    return [form["form"], *cells, str(sum(form["unscored"].values())), gap]


def _cell(figure: Mapping[str, Any]) -> str:
    """The estimate with its interval, or with its standard error where there are few twins."""
    if figure["value"] is None:
        return "no items"
    if figure["low"] is None:
        return f"{figure['value']:.3f} ± {figure['error']:.3f}"
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def _slug(model: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "-", model.partition("/")[2]).strip("-") or "model"
