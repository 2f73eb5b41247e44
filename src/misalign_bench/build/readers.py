"""Read a table of rows: CSV, JSON Lines, Parquet, plain text, or a data set of a hub.

The first thing that is wrong with a file is one line with its place: the line for text, the byte
for broken UTF-8. ``read_rows`` is what Stage I reads prompts with; ``read_table`` also keeps the
order of the columns and Parquet's schema, for commands that write the rows again. An apostrophe
that makes a formula text in a CSV cell is taken away (``build.csv_cells``).
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from misalign_bench.build.csv_cells import restored
from misalign_bench.errors import OutsideWorld, UserError
from misalign_bench.json_text import read_json

KINDS = "CSV, JSON Lines, Parquet or plain text (.csv, .jsonl, .ndjson, .parquet, .txt)"
LONGEST_FIELD = 1 << 30
LARGEST_UNPACKED = 1 << 29
"""Bytes that a Parquet file may always unpack to."""
MOST_UNPACKED = 100
"""Above that, how many times its own size it may unpack to."""
_BATCH = 64

Row = dict[str, Any]


class Table(NamedTuple):
    """The rows of a file, its columns in order, and its Arrow schema if it has one."""

    columns: list[str]
    rows: list[Row]
    schema: Any = None


def read_rows(
    path: str | Path = "",
    *,
    dataset: str = "",
    dataset_split: str = "train",
    prompt_column: str = "prompt",
    limit: int | None = None,
) -> list[Row]:
    """Read rows that have prompts, from a file or, if ``path`` is empty, from a hub's data set.

    Args:
        path: a file of one of ``KINDS``.
        dataset: a repository id that the ``datasets`` package can load.
        dataset_split: the split of it to read.
        prompt_column: the column that must be there; what plain text is named.
        limit: read only this many rows, from the start.

    Raises:
        UserError: no such file, broken, empty, or without the column, in one line.
        OutsideWorld: the file cannot be read, or the hub not reached.
    """
    if not path and not dataset:
        raise UserError("no prompts are named", mend="Set source.path or source.dataset")
    where = str(path) if path else dataset
    if path:
        table = read_table(Path(path), prompt_column)
    else:
        table = _read_dataset(dataset, dataset_split, limit)
    if not table.rows:
        raise UserError("is empty: there is no row in it", where=where)
    if prompt_column not in table.columns:
        raise UserError(
            f"has no column {prompt_column!r} (columns: {', '.join(table.columns)})",
            where=where,
            mend="Name it: --prompt-column NAME, or source.prompt_column in the configuration",
        )
    return table.rows[:limit]


def read_table(path: Path, text_column: str = "prompt") -> Table:
    """Read a file of any known kind; a plain text file has the one column ``text_column``.

    Raises:
        UserError: no such file, not of a known kind, or broken, in one line with its place.
        OutsideWorld: the system cannot read it.
    """
    if path.is_dir():
        raise UserError("is a folder, not a file", where=str(path))
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise UserError(
            f"is of no known kind ({path.suffix!r})", where=str(path), mend=f"Use {KINDS}"
        )
    try:
        return read(path, text_column)
    except FileNotFoundError:
        raise UserError("there is no such file", where=str(path)) from None
    except UnicodeDecodeError:
        raise _not_utf8(path) from None
    except PermissionError:
        raise UserError("may not be read", where=str(path), mend="Change its mode") from None
    except OSError as error:
        raise OutsideWorld(f"cannot be read: {error.strerror or error}", where=str(path)) from None


def _read_csv(path: Path, _: str) -> Table:
    csv.field_size_limit(LONGEST_FIELD)
    reader = csv.DictReader(_lines(path), restval="", strict=True)
    rows: list[Row] = []
    try:
        reader.fieldnames = [restored(name) for name in reader.fieldnames or ()]
        _refuse_repeated(reader.fieldnames, path)
        for row in reader:
            if None in row:
                raise UserError(
                    f"line {reader.line_num} has more fields than the header", where=str(path)
                )
            rows.append({name: restored(cell) for name, cell in row.items()})
    except csv.Error as error:
        raise UserError(f"after line {reader.line_num}: {error}", where=str(path)) from None
    return Table(list(reader.fieldnames), rows)


def _read_json_lines(path: Path, _: str) -> Table:
    rows: list[Row] = []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = read_json(line)
        except ValueError as error:
            raise UserError(f"line {number} is not JSON: {error}", where=str(path)) from None
        if not isinstance(row, dict):
            raise UserError(f"line {number} is not a JSON object", where=str(path))
        rows.append(row)
    return Table(list(dict.fromkeys(key for row in rows for key in row)), rows)


def _read_text(path: Path, text_column: str) -> Table:
    return Table([text_column], [{text_column: line.rstrip("\r\n")} for line in _lines(path)])


def _read_parquet(path: Path, _: str) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with path.open("rb") as file:  # what the system says about the file, before Arrow's wording
        if not file.read(1):
            raise UserError("is empty: not even a Parquet header is in it", where=str(path))
    try:
        with pq.ParquetFile(path) as parquet:
            columns, schema = list(parquet.schema_arrow.names), parquet.schema_arrow
            _refuse_repeated(columns, path)
            rows = _parquet_rows(parquet, path)
    except UnicodeDecodeError:
        raise UserError("a text in it is not UTF-8", where=str(path)) from None
    except (pa.ArrowException, OSError, ArithmeticError, LookupError, ValueError) as error:
        # The last three: dates, time zones and numbers that Python has no value for.
        raise UserError(f"is not Parquet, or broken: {_first_line(error)}", str(path)) from None
    except MemoryError:
        raise UserError("is broken, or holds more than fits in memory", where=str(path)) from None
    return Table(columns, rows, schema)


def _parquet_rows(parquet: Any, path: Path) -> list[Row]:
    """All rows, read in small parts, so that a small file cannot fill the memory."""
    size = path.stat().st_size
    groups = [parquet.metadata.row_group(place) for place in range(parquet.num_row_groups)]
    unpacked = sum(group.total_byte_size for group in groups)
    rows: list[Row] = []
    weight = 0
    _refuse_bomb(unpacked, size, path)
    for batch in parquet.iter_batches(batch_size=_BATCH):
        # What Python needs for a row beside its values.
        weight += batch.nbytes + batch.num_rows * 100 * (batch.num_columns + 2)
        _refuse_bomb(weight, size, path)
        rows += batch.to_pylist()
    return rows


def _refuse_bomb(weight: int, size: int, path: Path) -> None:
    if weight > LARGEST_UNPACKED and weight > MOST_UNPACKED * size:
        raise UserError(
            f"unpacks to over {MOST_UNPACKED} times its {size:,} bytes, as no table of texts does",
            where=str(path),
            mend="If that is right, write it as JSON Lines",
        )


def _refuse_repeated(columns: Sequence[str], path: Path) -> None:
    # Spreadsheets write columns without a name beside the last one; nobody asks for those.
    for name, count in Counter(filter(None, columns)).items():
        if count > 1:
            raise UserError(f"has two columns {name!r}", where=str(path), mend="Rename one")


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file with their ends, after a byte order mark if there is one."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, line in enumerate(file, start=1):
            if "\0" in line:
                raise UserError(
                    f"line {number} holds a NUL byte, so this is no text file",
                    where=str(path),
                    mend="Convert it to UTF-8 without NUL",
                )
            yield line


def _not_utf8(path: Path) -> UserError:
    """Find the line and the byte, which the decoder tells only within its buffer."""
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return UserError(
                    f"is not UTF-8 (line {number}, byte {offset + error.start} of the file)",
                    where=str(path),
                    mend="Convert it to UTF-8",
                )
            offset += len(line)
    return UserError("is not UTF-8", where=str(path), mend="Convert it to UTF-8")


def _read_dataset(name: str, split: str, limit: int | None) -> Table:
    try:
        import datasets
    except ImportError:
        raise UserError(
            "reading a data set by its repository id needs the package 'datasets'",
            where=name,
            mend="Install it (pip install datasets), or give a file: source.path",
        ) from None
    try:
        loaded = datasets.load_dataset(name, split=split)
    except (datasets.exceptions.DatasetsError, ValueError) as error:
        raise UserError(f"cannot be loaded: {_first_line(error)}", where=name) from None
    except OSError as error:
        raise OutsideWorld(f"the hub gave no data: {_first_line(error)}", where=name) from None
    if limit is not None:
        loaded = loaded.select(range(min(limit, len(loaded))))
    return Table(list(loaded.column_names), loaded.to_list())


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


_READERS: dict[str, Callable[[Path, str], Table]] = {
    ".csv": _read_csv,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
    ".txt": _read_text,
}
