"""``misalign-bench export``: write a data set as a task of another evaluation harness.

``--format lm-eval`` writes a folder for lm-evaluation-harness: task files, the documents with our
prompts word for word, and the functions that parse and count as ``bench`` does.
"""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "export"
HELP = "write a data set as a task of another evaluation harness"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="a data set folder or file")
    parser.add_argument(
        "--format", required=True, choices=("lm-eval",), help="the harness that is to read it"
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="folder of the task files"
    )
    parser.add_argument(
        "--split",
        action="append",
        choices=("train", "validation", "test", "all"),
        help="splits to export (default: test)",
    )
    parser.add_argument(
        "--framing",
        action="append",
        choices=("structured", "few_shot", "satisfies", "violates"),
        help="a task for each: a written verdict, or a wording of yes/no questions"
        " (default: structured and few_shot)",
    )
    parser.add_argument(
        "--condition",
        choices=("joint", "safety", "value", "culture"),
        default="joint",
        help="what is asked about a response (default: joint)",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.5,
        metavar="P",
        help="probability of a violation above which a yes/no answer is a flag (default: 0.5)",
    )
    parser.add_argument(
        "--json-schema",
        action="store_true",
        help="have the server hold written verdicts to their JSON schema, as bench does",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="N items only, as bench takes them")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of --limit (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    """Write the folder, and say how it is run."""
    from misalign_bench.cli.writing import write_whole
    from misalign_bench.errors import UserError
    from misalign_bench.suites.lm_eval_export import Wanted, write_tasks
    from misalign_bench.suites.savacu import load_suite

    if not 0 <= arguments.threshold <= 1:
        raise UserError(f"--threshold must be from 0 to 1, not {arguments.threshold:g}")
    if arguments.limit is not None and arguments.limit < 2:
        raise UserError("--limit takes whole pairs", mend="Give 2 or more")
    splits = arguments.split or ["test"]
    wanted = ["train", "validation", "test"] if "all" in splits else splits
    tasks = write_tasks(
        arguments.out,
        load_suite(arguments.dataset, wanted),
        Wanted(
            framings=tuple(dict.fromkeys(arguments.framing or Wanted().framings)),
            condition=arguments.condition,
            threshold=arguments.threshold,
            limit=arguments.limit,
            seed=arguments.seed,
            json_schema=arguments.json_schema,
        ),
        write_whole,
    )
    print(f"tasks {', '.join(tasks)} in {arguments.out}")
    print(f"lm_eval --include_path {arguments.out} --tasks {tasks[0]} --apply_chat_template …")
    return 0
