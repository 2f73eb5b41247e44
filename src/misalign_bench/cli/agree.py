"""``misalign-bench agree``: how the labels of two files agree, per dimension and per domain.

The files are outputs of ``classify``, the authors' classified CSV, or any file whose labels Stage I
reads. Prompts are matched by their text. Where a file holds a prompt twice, the first row counts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from misalign_bench.errors import UserError

if TYPE_CHECKING:
    from misalign_bench.build.agreement import Agreement, Figures, Labels

NAME = "agree"
HELP = "compare the labels of two files"

_SHOWN = 15


@dataclass(frozen=True, slots=True)
class Side:
    """One file: labels by content id, in its order, and how many rows repeated a prompt."""

    labels: Mapping[str, Labels]
    texts: Mapping[str, str]
    repeated: int
    otherwise: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("reference", type=Path, metavar="A", help="the labels to hold against")
    parser.add_argument("other", type=Path, metavar="B", help="the labels to compare with them")
    parser.add_argument(
        "--prompt-column",
        default="prompt",
        metavar="NAME",
        help="the column that holds the prompt, in both (default: %(default)s)",
    )
    parser.add_argument(
        "--one-label",
        action="store_true",
        help="keep the most probable label of each dimension where a file has more",
    )
    parser.add_argument(
        "--resamples",
        type=int,
        default=0,
        metavar="N",
        help="intervals of F1 from so many resamples of near-duplicate clusters (default: none)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the resamples (default: 0)")
    parser.add_argument(
        "--confused",
        type=int,
        default=_SHOWN,
        metavar="N",
        help="confusions shown per dimension (default: %(default)s; JSON has all)",
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Read both files, match, compare, print."""
    from misalign_bench.build.agreement import agreement
    from misalign_bench.cli.render import json_out

    for name in ("resamples", "confused"):
        if getattr(arguments, name) < 0:
            raise UserError(f"--{name} is a number of at least 0")
    one = _side(arguments.reference, arguments.prompt_column, arguments.one_label)
    two = _side(arguments.other, arguments.prompt_column, arguments.one_label)
    shared = [identity for identity in one.labels if identity in two.labels]
    if not shared:
        raise UserError(
            f"no prompt of {arguments.other} is in it",
            where=str(arguments.reference),
            mend="Compare two labellings of the same prompts",
        )
    found = agreement(
        [one.labels[identity] for identity in shared],
        [two.labels[identity] for identity in shared],
        _clusters([(identity, one.texts[identity]) for identity in shared], arguments.resamples),
        arguments.resamples,
        arguments.seed,
    )
    sides = (_about(arguments.reference, one, shared), _about(arguments.other, two, shared))
    if arguments.json:
        json_out(_table(found, sides))
    else:
        _show(found, sides, arguments.confused)
    return 0


def _side(path: Path, prompt_column: str, one_label: bool) -> Side:
    from misalign_bench.build.ingest import content_id, label_columns, row_labels
    from misalign_bench.build.readers import read_rows

    rows = read_rows(path, prompt_column=prompt_column)
    columns = label_columns(rows)
    if not columns:
        raise UserError(
            f"has no labels (columns: {', '.join(list(rows[0])[:12])})",
            where=str(path),
            mend="Expected safety_name, values_name and cultural_name, or labels, or domains",
        )
    labels: dict[str, Labels] = {}
    texts: dict[str, str] = {}
    repeated = otherwise = 0
    for number, row in enumerate(rows, start=1):
        where = f"row {number} of {path}"
        text = row.get(prompt_column)
        if not isinstance(text, str) or not text.strip():
            continue
        held: Labels = frozenset(row_labels(row, columns, where))
        if one_label:
            held = _most_probable(held, row, where)
        identity = content_id(text)
        if identity in labels:
            repeated += 1
            otherwise += labels[identity] != held
            continue
        labels[identity], texts[identity] = held, text
    return Side(labels, texts, repeated, otherwise)


def _most_probable(labels: Labels, row: Mapping[str, Any], where: str) -> Labels:
    """At most one label a dimension, by the probabilities that ``classify`` writes."""
    from misalign_bench.records import DIMENSIONS
    from misalign_bench.taxonomy.loader import taxonomy

    kept = []
    for dimension in DIMENSIONS:
        held = sorted(
            (label for label in labels if label.startswith(f"{dimension}/")), key=taxonomy().index
        )
        if len(held) > 1:
            try:
                held.sort(key=lambda label: -float(row[label]))
            except (KeyError, TypeError, ValueError):
                raise UserError(
                    f"has {len(held)} {dimension} labels and no probabilities to choose by",
                    where=where,
                    mend="Leave out --one-label",
                ) from None
        kept += held[:1]
    return frozenset(kept)


def _clusters(prompts: Sequence[tuple[str, str]], resamples: int) -> list[str] | None:
    if not resamples:
        return None
    from misalign_bench.build.deduplicate import cluster_ids
    from misalign_bench.config import DeduplicateSettings
    from misalign_bench.records import Prompt

    held = [Prompt(identity, text, "", 0) for identity, text in prompts]
    names = cluster_ids(held, DeduplicateSettings())
    return [names[identity] for identity, _ in prompts]


def _about(path: Path, side: Side, shared: Sequence[str]) -> dict[str, Any]:
    return {
        "file": path.name,
        "prompts": len(side.labels),
        "only_here": len(side.labels) - len(shared),
        "repeated_rows": side.repeated,
        "repeated_with_other_labels": side.otherwise,
    }


def _table(found: Agreement, sides: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    return {
        "reference": sides[0],
        "other": sides[1],
        "prompts": found.prompts,
        "dimensions": {
            name: {**figures.as_table(), "same": found.same[name]}
            for name, figures in found.dimensions.items()
        },
        "domains": {name: figures.as_table() for name, figures in found.domains.items()},
        "confusion": {
            name: [
                {"reference": one, "other": two, "count": count}
                for (one, two), count in sorted(cells.items(), key=lambda cell: (-cell[1], cell[0]))
            ]
            for name, cells in found.confusion.items()
        },
    }


def _show(found: Agreement, sides: tuple[dict[str, Any], dict[str, Any]], confused: int) -> None:
    """Three tables: dimensions and domains, then the most frequent confusions."""
    from misalign_bench.cli.render import table

    columns = ["", "precision", "recall", "F1", "kappa", "A", "B", "both"]
    named: dict[str, Figures] = {str(name): held for name, held in found.dimensions.items()}
    named |= {key: held for key, held in found.domains.items() if held.reference + held.other}
    rows: list[list[object]] = []
    for name, held in named.items():
        cells = [name, held.precision, held.recall, held.f1, held.kappa]
        rows.append([*cells, held.reference, held.other, held.both])
    if any(held.low is not None for held in found.dimensions.values()):
        columns += ["F1 low", "F1 high"]
        rows = [[*row, held.low, held.high] for row, held in zip(rows, named.values(), strict=True)]
    table(rows, columns)
    wrong = [
        (one, two, count)
        for cells in found.confusion.values()
        for (one, two), count in [cell for cell in cells.most_common() if cell[0][0] != cell[0][1]][
            :confused
        ]
    ]
    if wrong:
        print()
        table(wrong, ("in A", "in B", "prompts"))
    # Where another program reads the lines, the sentence must not be among them.
    print(_sentence(found, sides), file=sys.stdout if sys.stdout.isatty() else sys.stderr)


def _sentence(found: Agreement, sides: tuple[dict[str, Any], dict[str, Any]]) -> str:
    from misalign_bench.cli.render import plain

    said = [f"{found.prompts:,} prompts are in both; A is {plain(sides[0]['file'])}, the reference"]
    for letter, side in zip("AB", sides, strict=True):
        if side["only_here"]:
            said.append(f"{side['only_here']:,} only in {letter}")
        if side["repeated_rows"]:
            said.append(
                f"{side['repeated_rows']:,} rows of {letter} repeat a prompt"
                f" ({side['repeated_with_other_labels']:,} with other labels)"
            )
    same = ", ".join(
        f"{name} {share:.3f}" for name, share in found.same.items() if share is not None
    )
    return "; ".join([*said, f"share of prompts with the same labels: {same}"])
