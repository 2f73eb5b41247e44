"""``misalign-bench dedup``: drop near-duplicate rows from a file of texts (paper: Stage I, step 3).

Reads and writes CSV, JSON Lines, Parquet and plain text (one text a line), each by its extension.
Kept rows keep their columns and their order.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from misalign_bench.build.csv_cells import line
from misalign_bench.build.readers import KINDS, Table, read_table
from misalign_bench.errors import OutsideWorld, UserError
from misalign_bench.simhash.rule import SHORT_WORDS, TAU, VERIFY

if TYPE_CHECKING:
    from misalign_bench.simhash.clusters import Deduplicated
    from misalign_bench.simhash.features import Features

NAME = "dedup"
HELP = "drop near-duplicate texts from a file"

_Function = TypeVar("_Function")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("file", type=Path, metavar="FILE", help=f"texts to read: {KINDS}")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="kept rows")
    parser.add_argument(
        "--tau",
        type=int,
        default=TAU,
        help="largest Hamming distance between two 64-bit codes, 0 to 32 (default: %(default)s)",
    )
    verify = parser.add_mutually_exclusive_group()
    verify.add_argument(
        "--verify",
        type=float,
        default=VERIFY,
        metavar="JACCARD",
        help="least exact similarity of two texts within tau, 0 to 1 (default: %(default)s)",
    )
    verify.add_argument(
        "--no-verify",
        dest="verify",
        action="store_const",
        const=None,
        help="drop on the codes alone, as the paper does",
    )
    parser.add_argument(
        "--short-words",
        type=int,
        default=SHORT_WORDS,
        metavar="N",
        help="texts under N words are dropped only when equal (default: %(default)s)",
    )
    parser.add_argument(
        "--keep",
        choices=["first"],
        default="first",
        help="which text of a group of duplicates is kept (default: %(default)s)",
    )
    parser.add_argument(
        "--features",
        default="char-4",
        metavar="NAME",
        help="what codes are made of: char-1 to char-16 or word-1 to word-3, with -tf to count a "
        "feature as often as it occurs (default: %(default)s)",
    )
    parser.add_argument(
        "--text-column",
        default="prompt",
        metavar="NAME",
        help="the column that holds the text (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Read, deduplicate, write, and print what was dropped."""
    from misalign_bench.simhash.clusters import keep_first

    write = _of_kind(arguments.out, _WRITERS)
    features = _features(arguments.features)
    table = read_table(arguments.file, arguments.text_column)
    texts = _texts(table, arguments.text_column, arguments.file)
    try:
        done = keep_first(
            texts,
            arguments.tau,
            arguments.verify,
            short_words=arguments.short_words,
            features=features,
        )
    except ValueError as refusal:  # a threshold out of range, or too many pairs
        raise UserError(str(refusal), where=str(arguments.file)) from None
    kept = table._replace(rows=[table.rows[index] for index in done.kept])
    write_atomically(arguments.out, kept, write)
    print(_json(done) if arguments.json else _summary(done, arguments))
    return 0


def write_atomically(path: Path, table: Table, write: Callable[[Path, Table], None]) -> None:
    """Write beside the place and move it there, so that no half file is ever seen."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(unfinished, table)
        unfinished.replace(path)
    except UnicodeEncodeError:
        raise UserError(
            "a kept text holds a lone surrogate, which this kind of file cannot store",
            where=str(path),
            mend="Write to a .jsonl file",
        ) from None
    except OSError as error:
        raise OutsideWorld(f"cannot be written: {error}", where=str(path)) from None
    finally:
        with suppress(OSError):
            unfinished.unlink()


def _features(name: str) -> Features:
    from misalign_bench.simhash.features import parse_features

    try:
        return parse_features(name)
    except ValueError as refusal:
        raise UserError(str(refusal), where="--features") from None


def _texts(table: Table, column: str, path: Path) -> list[str]:
    if table.columns and column not in table.columns:
        raise UserError(
            f"has no column '{column}' (columns: {', '.join(table.columns)})",
            where=str(path),
            mend="Name it: --text-column text",
        )
    for number, row in enumerate(table.rows, start=1):
        if not isinstance(row.get(column), str):
            raise UserError(
                f"row {number} has no text in column '{column}', but {row.get(column)!r:.40}",
                where=str(path),
            )
    return [row[column] for row in table.rows]


def _json(done: Deduplicated) -> str:
    return json.dumps(
        {
            "kept": len(done.kept),
            "dropped": len(done.dropped),
            "pairs": done.pairs,
            "by_distance": {str(key): count for key, count in done.by_distance.items()},
            "by_reason": done.by_reason,
            "verified_out": done.verified_out,
        }
    )


def _summary(done: Deduplicated, arguments: argparse.Namespace) -> str:
    reasons = done.by_reason
    lines = [
        f"kept {len(done.kept):,} of {len(done.kept) + len(done.dropped):,} texts "
        f"({arguments.out}); dropped {reasons['identical']:,} identical, {reasons['near']:,} near"
    ]
    if done.by_distance:
        counts = ", ".join(f"{key}: {count:,}" for key, count in done.by_distance.items())
        lines.append(f"dropped by distance: {counts}")
    if arguments.verify is not None:
        lines.append(
            f"kept by verification: {done.verified_out:,} texts within tau = {arguments.tau} of a "
            f"kept one, but under {arguments.verify} similar"
        )
    return "\n".join(lines)


def _write_csv(path: Path, table: Table) -> None:
    def cell(value: Any) -> Any:
        return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value

    with path.open("w", encoding="utf-8", newline="") as file:
        if table.columns:
            file.write(line(table.columns))
        rows = ([cell(row.get(column)) for column in table.columns] for row in table.rows)
        file.writelines(map(line, rows))


def _write_json_lines(path: Path, table: Table) -> None:
    with path.open("wb") as file:
        for row in table.rows:
            try:
                line = json.dumps(row, ensure_ascii=False)
            except TypeError as error:  # a date or bytes, from Parquet
                raise UserError(
                    f"a column has values that JSON cannot hold ({error})",
                    mend="Write to a .parquet file",
                ) from None
            try:
                file.write(line.encode() + b"\n")
            except UnicodeEncodeError:  # a lone surrogate can only be written escaped
                file.write(json.dumps(row).encode() + b"\n")


def _write_parquet(path: Path, table: Table) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        arrow = (
            pa.Table.from_pylist(table.rows, schema=table.schema)
            if table.schema is not None
            else pa.table({name: [row.get(name) for row in table.rows] for name in table.columns})
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise UserError(f"its rows do not fit in Parquet: {error}", mend="Write .jsonl") from None
    pq.write_table(arrow, path)


def _write_lines(path: Path, table: Table) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        for number, row in enumerate(table.rows, start=1):
            (text,) = row.values() if len(row) == 1 else (None,)
            if text is None or "\n" in text or "\r" in text:
                raise UserError(
                    f"kept row {number} has more than one line or column, which plain text "
                    "cannot hold",
                    mend="Write to a .csv, .jsonl or .parquet file",
                )
            file.write(text + "\n")


def _of_kind(path: Path, by_suffix: Mapping[str, _Function]) -> _Function:
    try:
        return by_suffix[path.suffix.lower()]
    except KeyError:
        raise UserError(
            f"is of no known kind ('{path.suffix}')", where=str(path), mend=f"Use {KINDS}"
        ) from None


_WRITERS: dict[str, Callable[[Path, Table], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_json_lines,
    ".ndjson": _write_json_lines,
    ".parquet": _write_parquet,
    ".txt": _write_lines,
}
