"""What ``build``, ``bench`` and ``demo`` share: their options, weights first, a run's clients."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from misalign_bench.build.roles import Clients
    from misalign_bench.config import BudgetSettings, RunSettings
    from misalign_bench.config_model import ModelSettings, Settings
    from misalign_bench.journal.folder import RunFolder
    from misalign_bench.llm.model import Usage

Result = TypeVar("Result")
Table = TypeVar("Table", bound="Settings")


def add_call_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options about model calls."""
    parser.add_argument("--max-cost", type=float, metavar="USD", help="stop before spending more")
    parser.add_argument("--max-calls", type=int, metavar="N", help="stop before making more calls")
    parser.add_argument(
        "--accept-failures",
        action="store_true",
        help="close rows whose calls cannot be answered, instead of leaving them pending",
    )
    parser.add_argument(
        "--retry-failed", action="store_true", help="ask again where a failure was accepted"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="print a summary as JSON")


def budget_of(arguments: argparse.Namespace, settings: BudgetSettings) -> BudgetSettings:
    """The configured budget with what the command line says instead, checked again.

    Raises:
        UserError: a value out of range.
    """
    given = {"max_cost": arguments.max_cost, "max_calls": arguments.max_calls}
    return changed(settings, given, where="budget")


def changed(settings: Table, given: Mapping[str, Any], where: str) -> Table:
    """A settings table with the values that are not None in place of its own, checked again.

    Raises:
        UserError: a value out of range; ``where`` names the table.
    """
    from pydantic import ValidationError

    from misalign_bench.config_file import explain
    from misalign_bench.errors import UserError

    wanted = {name: value for name, value in given.items() if value is not None}
    try:
        return type(settings).model_validate(settings.model_dump() | wanted)
    except ValidationError as error:
        raise UserError(explain(error), where=where) from None


def fetch_weights(names: Iterable[str], quiet: bool) -> None:
    """Get the weights that these models need and the machine lacks, with progress.

    Raises:
        UserError: an unknown name.
        OutsideWorld: no source has them.
    """
    from misalign_bench.cli.weights import fetch
    from misalign_bench.config_model import embedder_names
    from misalign_bench.llm import weights

    for name in dict.fromkeys(part for joined in names for part in embedder_names(joined)):
        short = name.removeprefix("embedded/").partition("?")[0]
        if not name.startswith("embedded/") or short.endswith(".gguf"):
            continue
        if weights.cached(short) is None:
            fetch(short, quiet=quiet)


def embedders(settings: RunSettings) -> list[str]:
    """Return what embeds in this run: to classify, to rank, or first in a cascade."""
    return [
        settings.roles.classifier.model if one.method == "embedding" else one.embedder
        for one in settings.labelling
        if one.embeds
    ]


def with_clients(
    folder: RunFolder,
    models: Iterable[ModelSettings],
    budget: BudgetSettings,
    seed: int,
    arguments: argparse.Namespace,
    work: Callable[[Clients], Awaitable[Result]],
) -> tuple[Result, Mapping[tuple[str, str], Usage]]:
    """Open the journal, bind clients to it, do the work, close everything in any case.

    Returns:
        The result, and the totals of this run by (role, model).
    """
    from misalign_bench.build.roles import CallOptions, Clients
    from misalign_bench.cli.interrupt import run_interruptibly
    from misalign_bench.errors import UserError
    from misalign_bench.journal.store import Journal
    from misalign_bench.llm.budget import Budget

    async def run() -> tuple[Result, Mapping[tuple[str, str], Usage]]:
        spend = Budget.start(budget, models)
        journal = Journal.open(folder.journal)
        options = CallOptions(
            accept_failures=arguments.accept_failures,
            retry_failed=arguments.retry_failed,
            no_new_draws=getattr(arguments, "no_new_draws", False),
        )
        clients = Clients(journal, seed, spend, options)
        try:
            result = await work(clients)
            usage = clients.usage()
            return result, usage
        finally:
            await clients.close()
            # What ended the work must reach the caller, whatever the disk says to this.
            with suppress(UserError):
                folder.manifest.stage("calls", {"answers": journal.count()}, journal.totals())
            await journal.close()

    def stopped() -> None:
        with suppress(UserError):
            folder.manifest.finish("stopped", "interrupted")

    return run_interruptibly(run(), stopped, quiet=arguments.quiet)


def argv() -> list[str]:
    """The command as written, for the manifest."""
    return ["misalign-bench", *sys.argv[1:]]


def dumped(settings: Any) -> dict[str, Any]:
    """A configuration as the manifest keeps it, paths as names only."""
    table: dict[str, Any] = settings.model_dump(mode="json")
    expand = table.get("expand") or {}
    places = (table.get("source"), "path"), (table.get("classify"), "head")
    for held, key in (*places, (expand.get("classify"), "head")):
        if isinstance(held, dict) and held.get(key):
            held[key] = Path(held[key]).name
    return table
