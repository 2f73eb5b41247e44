"""Columns of a Parquet file of a run folder, or one line on why they cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from misalign_bench.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa


def read_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """Read these columns.

    Raises:
        UserError: no such file, it is damaged, or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, columns=list(columns)).select(list(columns))
    except (OSError, KeyError, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(
            f"cannot be read: {reason}",
            where=str(path),
            mend="Name the --out folder of a finished run",
        ) from None
