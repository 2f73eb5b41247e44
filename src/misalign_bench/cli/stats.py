"""``misalign-bench stats``: prompts and labels per domain of a file or a data set folder.

The authors' classified CSV is counted as published: every row is a prompt, none is dropped. In our
data sets, where a prompt has a row for each generator, it counts once.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from misalign_bench.errors import UserError

NAME = "stats"
HELP = "count the prompts and labels of a file or data set"

PAIRS = "data/pairs"


@dataclass(frozen=True, slots=True)
class Counts:
    """What a source holds; ``splits`` are its pairs by split, empty where there are none."""

    prompts: int
    labels: Counter[str]
    splits: dict[str, int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "source",
        type=Path,
        metavar="FILE|DATASET",
        help="classified prompts (.csv, .jsonl, .ndjson, .parquet) or a data set folder",
    )
    parser.add_argument(
        "--prompt-column",
        default="prompt",
        metavar="NAME",
        help="the column of a file that holds the prompt (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print how many prompts have a label of each domain."""
    from misalign_bench.cli.render import json_out, table
    from misalign_bench.taxonomy.loader import taxonomy

    source: Path = arguments.source
    counts = _folder(source) if source.is_dir() else _file(source, arguments.prompt_column)
    domains = [
        {"dimension": one.dimension, "name": one.name, "classified": counts.labels[one.key]}
        for one in taxonomy().domains
    ]
    if arguments.json:
        more = {"pairs": sum(counts.splits.values()), "splits": counts.splits}
        held: dict[str, Any] = {
            "prompts": counts.prompts,
            "labels": counts.labels.total(),
            **(more if counts.splits else {}),
            "domains": domains,
        }
        json_out(held)
        return 0
    table([list(row.values()) for row in domains], ("dimension", "name", "classified"))
    # Where another program reads the lines, the sentence must not be among them.
    print(_sentence(counts), file=sys.stdout if sys.stdout.isatty() else sys.stderr)
    return 0


def _sentence(counts: Counts) -> str:
    said = f"{counts.prompts:,} prompts, {counts.labels.total():,} labels"
    if not counts.splits:
        return said
    splits = ", ".join(f"{name} {count:,}" for name, count in counts.splits.items())
    return f"{said}; {sum(counts.splits.values()):,} pairs ({splits})"


def _file(path: Path, prompt_column: str) -> Counts:
    """Count the rows of a file, or its distinct prompts where rows name theirs."""
    from misalign_bench.build.ingest import label_columns, row_labels
    from misalign_bench.build.readers import read_rows

    rows = read_rows(path, prompt_column=prompt_column)
    columns = label_columns(rows)
    if not columns:
        raise UserError(
            f"has no labels (columns: {', '.join(rows[0])})",
            where=str(path),
            mend="Expected safety_name, values_name and cultural_name, or labels, or domains",
        )
    distinct: dict[object, tuple[str, ...]] = {}
    for number, row in enumerate(rows, start=1):
        labels = row_labels(row, columns, f"row {number} of {path}")
        distinct[row.get("prompt_id") or number] = labels
    return Counts(len(distinct), Counter(key for held in distinct.values() for key in held), {})


def _folder(path: Path) -> Counts:
    """Count the distinct prompts of all splits, and the pairs of each."""
    from misalign_bench.records import SPLITS
    from misalign_bench.suites.files import parquet

    files = {split: sorted((path / PAIRS).glob(f"{split}-*.parquet")) for split in SPLITS}
    if not any(files.values()):
        raise UserError(
            f"no Parquet files in {PAIRS}", where=str(path), mend="Name a data set folder"
        )
    distinct: dict[str, tuple[str, ...]] = {}
    splits: dict[str, int] = dict.fromkeys(files, 0)
    for split, parts in files.items():
        for part in parts:
            for row in parquet(part, ("prompt_id", "domains")):
                splits[split] += 1
                distinct[row.text("prompt_id")] = row.texts("domains")
    return Counts(len(distinct), Counter(key for held in distinct.values() for key in held), splits)
