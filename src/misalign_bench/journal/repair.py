"""Keep what is intact in a damaged journal: every row that is still as it was written.

The rows are copied into a new file that takes the journal's place; the damaged files are kept
beside it. A row is intact if its checksum fits (see ``entries``), so nothing wrong comes along.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from misalign_bench.errors import UserError
from misalign_bench.journal.database import TABLES, checksum_of, insert, open_for_writing
from misalign_bench.journal.entries import CHECKSUM, Row, opened, unpack
from misalign_bench.journal.failures import explained, from_system
from misalign_bench.journal.folder import JOURNAL, sync_folder
from misalign_bench.journal.lock import FolderLock

_PAGE = 4096
# The first bytes of every journal: SQLite's name, pages of 4 KB, write-ahead log, fixed fractions.
_HEAD = b"SQLite format 3\x00\x10\x00\x02\x02\x00\x40\x20\x20"
_STEP = 256
_SMALLEST_ROW = 64


@dataclass(frozen=True, slots=True)
class Repaired:
    """What came of a repair.

    Attributes:
        kept: answers in the new journal.
        damaged: rows that were found and were not as written; pages that are gone leave no count.
        aside: the folder with the damaged files.
    """

    kept: int
    damaged: int
    aside: Path


def repair(folder: Path) -> Repaired:
    """Put a journal of the intact rows in the place of a run folder's journal.

    It may be interrupted at any moment and run again.

    Raises:
        UserError: there is no journal, another process works in the folder, or it may not be
            written.
        OutsideWorld: full disk or input/output error.
    """
    path = folder / JOURNAL
    if not path.is_file():
        raise UserError("there is no journal here", where=str(folder), mend="Name a run's folder")
    fresh = path.with_name(f".{JOURNAL}.repaired")
    lock = FolderLock(folder)
    try:
        aside = _set_aside(path)
        _fold_log(path)
        _remove(fresh)
        with explained(fresh):
            kept, damaged = _rebuild(path, fresh)
        os.replace(fresh, path)
        sync_folder(folder)
    except OSError as error:
        raise from_system(error, path) from None
    finally:
        _remove(fresh)
        lock.release()
    return Repaired(kept, damaged, aside)


def _set_aside(path: Path) -> Path:
    """Copy the journal and its log as they are."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    aside.mkdir()
    try:
        for file in (path, path.with_name(f"{path.name}-wal")):
            if file.exists():
                shutil.copy2(file, aside)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return aside


def _fold_log(path: Path) -> None:
    """Move what only the log holds into the main file, or it would be taken for the new file's log.

    SQLite copies the pages as they are, so this works on a damaged file too.
    """
    with path.open("r+b") as file:
        file.write(_HEAD)
    with suppress(sqlite3.Error), closing(_tolerant(path, "rw")) as held:
        held.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _rebuild(path: Path, fresh: Path) -> tuple[int, int]:
    """Copy the intact rows; where the file's own table of contents is lost, by a new file's."""
    with closing(open_for_writing(fresh)) as target:
        target.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        first = bytearray(fresh.read_bytes()[:_PAGE])
        kept, damaged = _copy(path, target)
        if kept:
            return kept, damaged
        # Tables begin at the same pages in all journals.
        first[28:32] = (path.stat().st_size // _PAGE).to_bytes(4, "big")
        with path.open("r+b") as file:
            file.write(first)
        kept, found = _copy(path, target)
        return kept, max(damaged, found)


def _copy(path: Path, target: sqlite3.Connection) -> tuple[int, int]:
    """The number of answers that the new journal then holds, and of damaged rows."""
    damaged = 0
    with closing(_tolerant(path, "ro")) as source:
        target.execute("BEGIN IMMEDIATE")
        for table, columns in TABLES.items():
            # A row may be found several times; only attempts are not told apart by what they say.
            numbered = table == "attempts"
            statement = insert(table, ("id", *columns) if numbered else columns, ignore=True)
            bad = set()
            for number, *row in _found(source, table, columns, path.stat().st_size):
                if _intact(row):
                    with suppress(sqlite3.IntegrityError):
                        target.execute(statement, [number, *row] if numbered else row)
                else:
                    bad.add(number)
            damaged += len(bad)
        target.execute("COMMIT")
    (kept,) = target.execute("SELECT COUNT(*) FROM answers").fetchone()
    return int(kept), damaged


def _found(
    source: sqlite3.Connection, table: str, columns: Sequence[str], size: int
) -> Iterator[Row]:
    """Every row that can be reached, with its number; some of them more than once."""
    select = _select(source, table, columns)
    try:
        yield from source.execute(f"{select} ORDER BY id")
        return
    except sqlite3.DatabaseError:
        # A scan ends at the first page that cannot be read. One from the other end and a search
        # by number need other pages.
        pass
    with suppress(sqlite3.DatabaseError):
        yield from source.execute(f"{select} ORDER BY id DESC")
    for first in range(0, size // _SMALLEST_ROW, _STEP):
        last = first + _STEP
        try:
            yield from source.execute(f"{select} WHERE id > ? AND id <= ?", (first, last))
        except sqlite3.DatabaseError:
            for number in range(first + 1, last + 1):
                with suppress(sqlite3.DatabaseError):
                    yield from source.execute(f"{select} WHERE id = ?", (number,))


def _select(source: sqlite3.Connection, table: str, columns: Sequence[str]) -> str:
    """The columns by name; an older schema has no checksums, and its rows get theirs here."""
    names = list(columns)
    with suppress(sqlite3.DatabaseError):
        held = {row[1] for row in source.execute(f"PRAGMA table_info({table})")}
        if held and CHECKSUM not in held:
            names[-1] = checksum_of(source, columns[:-1])
    return f"SELECT id, {', '.join(names)} FROM {table}"


def _intact(row: Sequence[object]) -> bool:
    try:
        for value in opened(row):
            if isinstance(value, bytes):
                unpack(value)
    except sqlite3.DatabaseError:
        return False
    return True


def _tolerant(path: Path, mode: str) -> sqlite3.Connection:
    """A connection that reads what others refuse: a shortened file, bytes that are no text."""
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode={mode}", uri=True, isolation_level=None
    )
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    with suppress(sqlite3.DatabaseError):
        connection.execute("PRAGMA writable_schema=1")
    return connection


def _remove(fresh: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        with suppress(OSError):
            fresh.with_name(fresh.name + suffix).unlink()
