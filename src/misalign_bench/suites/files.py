"""Rows of JSON Lines and Parquet files, each knowing its file and line for errors."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from misalign_bench.errors import UserError
from misalign_bench.json_text import read_json

_BATCH = 2_000


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file. A field that is null is absent.

    Attributes:
        fields: its values by column.
        where: file and line or row, for errors.
    """

    fields: Mapping[str, Any]
    where: str

    def __contains__(self, name: str) -> bool:
        return self.fields.get(name) is not None

    def text(self, name: str, default: str | None = None) -> str:
        """A text; without a default it must be there and not be blank."""
        value = self.fields.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            raise self.broken(f"{name!r} must be a text")
        if default is None and not value.strip():
            raise self.broken(f"{name!r} is empty")
        return self._sound(name, value)

    def boolean(self, name: str, default: bool | None = None) -> bool:
        """A truth value; without a default it must be there."""
        value = self.fields.get(name, default)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise self.broken(f"{name!r} must be true or false")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts without repetitions, empty if absent."""
        value = self.fields.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self.broken(f"{name!r} must be a list of texts")
        return tuple(dict.fromkeys(self._sound(name, one) for one in value))

    def broken(self, what: str) -> UserError:
        """The error for this row."""
        return UserError(what, where=self.where)

    def _sound(self, name: str, value: str) -> str:
        # JSON can spell half of a surrogate pair, which neither a model nor a file can take.
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self.broken(f"{name!r} is not valid Unicode") from None
        return value


def json_lines(path: Path, columns: Collection[str] = ()) -> Iterator[Row]:
    """Read a JSON object per line; blank lines are skipped, all columns are kept."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _object(line, f"{path}:{number}")
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(path)) from None


def parquet(path: Path, columns: Collection[str] = ()) -> Iterator[Row]:
    """Read the rows of a Parquet file, with only these columns if any are named."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            there = file.schema_arrow.names
            wanted = [name for name in there if not columns or name in columns]
            number = 0
            for batch in file.iter_batches(batch_size=_BATCH, columns=wanted):
                for fields in batch.to_pylist():
                    number += 1
                    yield Row(fields, f"{path} row {number}")
    except (OSError, pa.ArrowException, ArithmeticError, LookupError, ValueError) as error:
        # The last three: texts, dates, time zones and numbers that Python has no value for.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"cannot be read as Parquet: {reason}", where=str(path)) from None


def _object(line: bytes, where: str) -> Row:
    try:
        fields = read_json(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise UserError("not UTF-8", where=where) from None
    except ValueError as error:
        raise UserError(f"not valid JSON: {error}", where=where) from None
    if not isinstance(fields, dict):
        raise UserError("a line must be a JSON object", where=where)
    return Row(fields, where)
