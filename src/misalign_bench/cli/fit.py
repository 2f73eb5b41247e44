"""``misalign-bench fit``: fit the embedding classifier's head on prompts with labels.

The head is one small file for ``classify --method embedding --head FILE`` and for
``classify: {method: embedding, head: FILE}`` in a configuration.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from misalign_bench.cli.source import add_source_arguments, source_of
from misalign_bench.errors import UserError

if TYPE_CHECKING:
    from misalign_bench.build.classify.fit_head import Labelled
    from misalign_bench.build.classify.head import Head
    from misalign_bench.cli.progress import Progress
    from misalign_bench.llm.embedding import Embedder
    from misalign_bench.records import Prompt

NAME = "fit"
HELP = "fit the embedding classifier on prompts with labels"

_SLICE = 1_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="prompts with labels: CSV, JSON Lines or Parquet"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="HEAD", help="the .npz file to write"
    )
    parser.add_argument(
        "--model",
        default="embedded/minilm",
        help="the embedding model: embedded/minilm, onnx/FOLDER, or both joined by + "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of folds and order of prompts (default: 0)"
    )
    add_source_arguments(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="print the training manifest as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Read, embed, fit, write, and say how well it holds on what it has not seen."""
    from misalign_bench.build.classify.fit_head import FOLDS, fit_head
    from misalign_bench.build.classify.head import save
    from misalign_bench.cli.progress import Progress
    from misalign_bench.cli.running import fetch_weights
    from misalign_bench.cli.writing import write_whole
    from misalign_bench.llm.embedding import load_embedder

    _refuse_other_kinds(arguments.out)
    prompts = _prompts(arguments)
    fetch_weights([arguments.model], arguments.quiet)
    embedder = load_embedder(arguments.model)
    progress = Progress(arguments.quiet)
    data = _embedded(prompts, embedder, progress)
    with progress.stage("fit", FOLDS + 1) as stage:
        head = fit_head(
            data,
            {"name": embedder.name, "identity": embedder.identity},
            source=arguments.file.name,
            seed=arguments.seed,
            settled=stage.advance,
        )
    write_whole(arguments.out, lambda path: save(head, path))
    _show(head, arguments, progress)
    return 0


def _prompts(arguments: argparse.Namespace) -> list[Prompt]:
    from misalign_bench.build.ingest import ingest

    prompts = list(ingest(source_of(arguments)).prompts)
    if any(prompt.published is None for prompt in prompts):
        raise UserError(
            "the prompts came without labels",
            where=str(arguments.file),
            mend="Expected safety_name, values_name and cultural_name, or labels, or domains",
        )
    return prompts


def _embedded(prompts: list[Prompt], embedder: Embedder, progress: Progress) -> Labelled:
    import numpy as np

    from misalign_bench.build.classify.fit_head import Labelled
    from misalign_bench.build.deduplicate import cluster_ids
    from misalign_bench.config import DeduplicateSettings

    vectors = []
    with progress.stage("embed", len(prompts)) as stage:
        for start in range(0, len(prompts), _SLICE):
            part = prompts[start : start + _SLICE]
            vectors.append(embedder.embed([prompt.text for prompt in part]))
            stage.advance(len(part))
    clusters = cluster_ids(prompts, DeduplicateSettings())
    return Labelled(
        ids=[prompt.id for prompt in prompts],
        texts=[prompt.text for prompt in prompts],
        labels=[prompt.published or () for prompt in prompts],
        clusters=[clusters[prompt.id] for prompt in prompts],
        vectors=np.concatenate(vectors),
    )


def _show(head: Head, arguments: argparse.Namespace, progress: Progress) -> None:
    from misalign_bench.cli.render import json_out, table

    manifest = head.manifest
    if arguments.json:
        json_out({**manifest, "out": str(arguments.out)})
        return
    figures: dict[str, Any] = manifest["out_of_fold"]
    rows = []
    for name, held in figures.items():
        many, one = held["all_labels"], held["one_label"]
        error = held["reliability"]["best_domain"]["expected_calibration_error"]
        rows.append([name, head.delta[name], many["f1"], one["delta"], one["f1"], error])
    table(rows, ("out of fold", "delta", "F1", "delta, one label", "F1, one label", "ECE"))
    data = manifest["data"]
    kilobytes = arguments.out.stat().st_size / 1024
    progress.line(f"{data['prompts']:,} prompts; {arguments.out}, {kilobytes:,.0f} KiB")


def _refuse_other_kinds(path: Path) -> None:
    if path.is_dir():
        raise UserError("is a folder, not a file", where=str(path))
    if path.suffix != ".npz":
        raise UserError(f"is of no known kind ('{path.suffix}')", where=str(path), mend="Use .npz")
