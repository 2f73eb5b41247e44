"""``misalign-bench validate``: check a configuration, data or results without calling a model.

Prints what was checked. If anything is wrong, one line for each problem and exit code 2.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from misalign_bench.errors import UserError

if TYPE_CHECKING:
    from misalign_bench.config import RunSettings
    from misalign_bench.config_model import ModelSettings

NAME = "validate"
HELP = "check a configuration, a data set or a results.json"

BAD_INPUT = 2
CONFIGURATIONS = (".yaml", ".yml")
DATA = (".parquet", ".jsonl", ".ndjson")
RESULTS = ".json"


@dataclass(slots=True)
class Findings:
    """What was checked, what is worth knowing, and what is wrong."""

    checked: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def check(self, what: str, look: Callable[[], str | None]) -> None:
        """Do one check: what it returns is added to its line, what it raises is a problem."""
        try:
            found = look()
        except UserError as error:
            self.problems.append(str(error))
        else:
            self.checked.append(f"{what}: {found}" if found else what)

    def all_of(self, what: str, problems: Iterator[str], held: str = "") -> None:
        """Do a check that finds any number of problems."""
        found: list[str] = []
        try:
            found.extend(problems)
        except UserError as error:
            found.append(str(error))
        self.problems += found
        if not found:
            self.checked.append(f"{what}: {held}" if held else what)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "source",
        metavar="CONFIG|DATASET|RESULTS",
        help="a YAML file, a shipped configuration, a data set folder, a .parquet or .jsonl file,"
        " a results.json",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Check, print, and return 2 if there is a problem."""
    from misalign_bench.cli.render import json_out, plain

    findings = _findings(arguments.source)
    if arguments.json:
        held = {"checked": findings.checked, "notes": findings.notes}
        json_out(held | {"problems": findings.problems})
    else:
        for line in findings.checked:
            print(f"ok    {plain(line)}")
        for line in findings.notes:
            print(f"note  {plain(line)}")
        for line in findings.problems:
            print(f"misalign-bench: {plain(line)}", file=sys.stderr)
    return BAD_INPUT if findings.problems else 0


def _findings(source: str) -> Findings:
    from misalign_bench.config_file import SHIPPED

    path = Path(source)
    if source in SHIPPED or path.suffix.lower() in CONFIGURATIONS:
        return _configuration(source)
    if path.is_dir() or path.suffix.lower() in DATA:
        from misalign_bench.cli.validate_dataset import dataset_findings

        return dataset_findings(path)
    if path.is_file() and path.suffix.lower() == RESULTS:
        return _results(path)
    if not path.exists():
        raise UserError(
            "there is no such file or folder",
            where=source,
            mend=f"Name a YAML file, a data set, or a shipped configuration: {', '.join(SHIPPED)}",
        )
    raise UserError(
        f"is neither a configuration nor a data set nor results ({path.suffix!r})",
        where=source,
        mend=f"Known: {', '.join((*CONFIGURATIONS, *DATA, RESULTS))}, or a folder",
    )


def _results(path: Path) -> Findings:
    from misalign_bench.bench.results_file import problems, read_results

    findings = Findings()
    try:
        table = read_results(path)
    except UserError as error:
        findings.problems.append(str(error))
        return findings
    held = f"{len(table.get('targets') or ())} targets, mode {table.get('mode')}"
    findings.all_of(f"{path}: follows the schema", problems(table), held)
    return findings


def _configuration(source: str) -> Findings:
    from misalign_bench.build.expand import wanted_domains
    from misalign_bench.build.policy import barred_domains
    from misalign_bench.config_file import load
    from misalign_bench.llm.budget import Budget

    findings = Findings()
    try:
        settings = load(source)
    except UserError as error:
        findings.problems.append(str(error))
        return findings
    findings.checked.append(f"{source}: every key is known and every value in range")
    named = _models(settings)
    for model in {_identity(model): model for _, model in named}.values():
        findings.check(f"model {model.model}", partial(_known, model))
    findings.check("roles", partial(_kept_apart, settings))
    findings.check("policy.allow_domains", lambda: _barred(len(barred_domains(settings.policy))))
    findings.check("expand.domains", lambda: f"{len(wanted_domains(settings))} to be filled")
    findings.all_of("the steps fit together", _misfits(settings))
    models = [model for _, model in named]
    findings.check("budget", lambda: _started(Budget.start(settings.budget, models)))
    if settings.source.path or settings.source.dataset:
        findings.check("source", lambda: _prompts(settings))
    else:
        findings.notes.append("source: no prompts are named yet (source.path)")
    return findings


def _models(settings: RunSettings) -> list[tuple[str, ModelSettings]]:
    """Every model that the configuration names, with its role."""
    roles = settings.roles
    held = [("evaluator", roles.evaluator), *(("generator", one) for one in roles.generators)]
    if any(one.method != "published" for one in settings.labelling):
        held.append(("classifier", roles.classifier))
    if settings.expand.enabled and roles.expander is not None:
        held.append(("expander", roles.expander))
    return [*held, *(("target", one) for one in settings.bench.targets)]


def _known(model: ModelSettings) -> str:
    """Whether a model can be made, as far as that can be told without loading or asking it.

    Raises:
        UserError: it cannot.
    """
    provider, _, name = model.model.partition("/")
    if provider == "embedded":
        from misalign_bench.llm.weights import cached, find

        short = name.partition("?")[0]
        if short.endswith(".gguf"):
            if not Path(short).is_file():
                raise UserError("there is no such file", where=model.model)
            return "a file"
        return "cached" if cached(find(short).name) else "not fetched yet"
    if provider == "simulated":
        from misalign_bench.llm.simulated import SimulatedModel

        SimulatedModel(model)
        return "results will be marked simulated"
    if provider == "openai" and not (model.base_url or os.environ.get("OPENAI_BASE_URL")):
        return "" if os.environ.get(model.key_variable) else f"no key in {model.key_variable} yet"
    return model.base_url


def _kept_apart(settings: RunSettings) -> str:
    """Whether one model holds roles that must be kept apart (paper: to avoid circular bias).

    Weights that are equal under different names only show when the models are made.

    Raises:
        UserError: it does, and that is not allowed.
    """
    roles, bench = settings.roles, settings.bench
    generators = {_identity(model) for model in roles.generators}
    shared = [
        (f"the {role} {model.model} is also a generator", "roles", roles.allow_shared_roles)
        for role, model in _models(settings)
        if role in ("evaluator", "classifier") and _identity(model) in generators
    ]
    shared += [
        (f"the target {target.model} is the evaluator", "bench", bench.allow_shared_roles)
        for target in bench.targets
        if _identity(target) == _identity(roles.evaluator)
    ]
    for what, where, allowed in shared:
        if not allowed:
            mend = "Name another model, or set allow_shared_roles: true (marks every result)"
            raise UserError(what, where=where, mend=mend)
    if not shared:
        return "kept apart"
    return f"{'; '.join(what for what, _, _ in shared)}: allowed, and every result will be marked"


def _identity(model: ModelSettings) -> tuple[str, str, str]:
    name = model.model if model.model.startswith("simulated/") else model.model.partition("?")[0]
    return name, model.base_url, model.revision


def _misfits(settings: RunSettings) -> Iterator[str]:
    """Settings that are right each for itself and wrong together."""
    from misalign_bench.llm.embedding import is_embedder

    roles = settings.roles
    embedder = is_embedder(roles.classifier.model)
    for classify in settings.labelling:
        if classify.method == "embedding" and not embedder:
            yield (
                "classify.method: embedding needs an embedding model, not "
                f"{roles.classifier.model}. Name embedded/minilm or onnx/FOLDER"
            )
        if classify.asks and embedder:
            yield f"classify.method: {classify.method} needs a chat model, not an embedding model"
        if not is_embedder(classify.embedder):
            yield f"classify.embedder: {classify.embedder} is no embedding model"
    if settings.expand.enabled and roles.expander is None:
        yield "roles.expander: expansion is on, but no model for it is named"


def _barred(count: int) -> str:
    return f"{count} domains get no misaligned responses"


def _started(_: object) -> str | None:
    return None


def _prompts(settings: RunSettings) -> str:
    from misalign_bench.build.ingest import ingest

    found = ingest(settings.source)
    return f"{len(found.prompts):,} prompts in {found.rows:,} rows, {len(found.dropped):,} dropped"
