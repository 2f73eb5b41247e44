"""``misalign-bench demo``: the main job on the embedded models: build, bench, page.

Fetches the weights it needs, builds a small data set from prompts of our own, benches two models on
it and writes the page. Everything is computed live. ``--small`` uses the 98 MB model in all roles:
it shows the plumbing, its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from misalign_bench.cli.progress import Progress
    from misalign_bench.config import RunSettings

NAME = "demo"
HELP = "run the main job end to end on small embedded models, and write the page"

QWENS = ("qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--small", action="store_true", help="only the 98 MB model, plumbing only")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder (default: runs/demo)")
    parser.add_argument("--limit", type=int, metavar="N", help="use the first N prompts only")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def run(arguments: argparse.Namespace) -> int:
    """Build, bench, write the page, print its path."""
    from misalign_bench.cli.bench import bench_into, print_leaderboard
    from misalign_bench.cli.build import build_into
    from misalign_bench.cli.progress import Progress
    from misalign_bench.report.write import write_report

    progress = Progress(arguments.quiet)
    settings = _settings(arguments, progress)
    options = argparse.Namespace(
        quiet=arguments.quiet,
        limit=None,
        seed=settings.seed,
        accept_failures=False,
        retry_failed=False,
        no_new_draws=False,
    )
    out = arguments.out or Path("runs") / settings.name
    built, benched = out / "savacu", out / "bench"
    build_into(built, settings, options, progress)
    print_labels(built)
    found = bench_into(benched, built, settings.bench, settings.budget, options, progress)
    print_leaderboard(found)
    page = out / "page.html"
    write_report([benched, built], page)
    print(f"page: {page}")
    return 0


def _settings(arguments: argparse.Namespace, progress: Progress) -> RunSettings:
    """The demo's configuration; the small one where the larger weights cannot be had."""
    from misalign_bench.cli.running import fetch_weights
    from misalign_bench.config_file import load
    from misalign_bench.errors import OutsideWorld

    small = arguments.small
    if not small:
        try:
            fetch_weights([f"embedded/{name}" for name in QWENS], arguments.quiet)
        except OutsideWorld as error:
            print(f"{error}. Falling back to the small demo.", file=sys.stderr)
            small = True
    if small:
        progress.line(
            "The small demo: one 98 MB model writes, judges and is tested. It shows that all of it "
            "runs; its numbers mean nothing."
        )
    settings = load("demo-small" if small else "demo")
    if arguments.limit is not None:
        source = settings.source.model_copy(update={"limit": arguments.limit})
        settings = settings.model_copy(update={"source": source})
    return settings


def print_labels(dataset: Path) -> None:
    """The labels that the classifier gave each prompt of the data set."""
    import pyarrow.parquet as pq

    from misalign_bench.build.export import data_path
    from misalign_bench.cli.render import table
    from misalign_bench.records import SPLITS

    labels: dict[str, tuple[str, list[str]]] = {}
    for split in SPLITS:
        columns = ["prompt_id", "prompt", "domains"]
        held = pq.read_table(dataset / data_path("pairs", split), columns=columns)
        for row in held.to_pylist():
            labels[row["prompt_id"]] = (row["prompt"], row["domains"])
    rows = [[prompt[:70], len(domains), ", ".join(domains)] for prompt, domains in labels.values()]
    table(rows, ["prompt", "labels", "domains"])
    if rows:
        print(f"{sum(len(one[1]) for one in labels.values()) / len(rows):.1f} labels per prompt")
