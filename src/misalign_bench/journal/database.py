"""The SQLite file of a journal: its tables, its pragmas, and the checks before it is used.

Write-ahead logging with ``synchronous=FULL``: a commit has reached the disk when it returns, and
readers never wait for the writer (https://www.sqlite.org/wal.html). Bodies lie in rowid order
beside a unique index on the key, so that random keys do not scatter them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from misalign_bench import __version__
from misalign_bench.errors import UserError
from misalign_bench.journal.entries import (
    ANSWER_COLUMNS,
    ATTEMPT_COLUMNS,
    CHECKSUM,
    ENDPOINT_COLUMNS,
    checksum,
    unpack,
)
from misalign_bench.journal.failures import DAMAGED, SET_ASIDE, WRITABLE, explained

SCHEMA_VERSION = 2
TABLES = {
    "answers": ANSWER_COLUMNS,
    "attempts": ATTEMPT_COLUMNS,
    "endpoints": ENDPOINT_COLUMNS,
}
_BUSY_SECONDS = 30.0

_TABLES = (
    """CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS answers (
        id INTEGER PRIMARY KEY, key TEXT NOT NULL, role TEXT NOT NULL, model TEXT NOT NULL,
        template TEXT NOT NULL, status TEXT NOT NULL, round INTEGER NOT NULL,
        draw INTEGER NOT NULL, epoch INTEGER NOT NULL, input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL, cost REAL,
        latency REAL NOT NULL, created REAL NOT NULL, request BLOB NOT NULL,
        response BLOB NOT NULL, checksum INTEGER)""",
    """CREATE UNIQUE INDEX IF NOT EXISTS answers_key ON answers (key)""",
    """CREATE TABLE IF NOT EXISTS attempts (
        id INTEGER PRIMARY KEY, key TEXT NOT NULL, model TEXT NOT NULL, role TEXT NOT NULL,
        time REAL NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL, latency REAL NOT NULL,
        status INTEGER, checksum INTEGER)""",
    """CREATE TABLE IF NOT EXISTS endpoints (
        id INTEGER PRIMARY KEY, model TEXT NOT NULL, endpoint TEXT NOT NULL,
        served TEXT NOT NULL, checksum INTEGER, UNIQUE (model, endpoint, served))""",
)


def insert(table: str, columns: Sequence[str], *, ignore: bool = False) -> str:
    """The statement that adds a row; with ``ignore``, unless its key has one."""
    verb = "INSERT OR IGNORE" if ignore else "INSERT"
    places = ", ".join("?" * len(columns))
    return f"{verb} INTO {table} ({', '.join(columns)}) VALUES ({places})"


INSERT_ANSWER = insert("answers", ANSWER_COLUMNS, ignore=True)
INSERT_ATTEMPT = insert("attempts", ATTEMPT_COLUMNS)
INSERT_ENDPOINT = insert("endpoints", ENDPOINT_COLUMNS, ignore=True)
SELECT_ANSWER = f"SELECT {', '.join(ANSWER_COLUMNS)} FROM answers WHERE key = ?"


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open the journal at ``path``, made if there is none, on the connection that writes.

    One of an older schema is brought up to date first, in one transaction.

    Raises:
        UserError: damaged, newer, another program's file, or a folder that may not be written.
        OutsideWorld: full disk, input/output error, locked by another process.
    """
    with explained(path):
        connection = _connect(str(path), uri=False)
        try:
            # Before anything is changed: another program's database must stay as it is.
            if _has_tables(connection):
                _check(connection, path)
                _refuse_broken(connection)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA wal_autocheckpoint=4000")
            connection.execute("PRAGMA cache_size=-65536")
            _create(connection)
            if _check(connection, path) < SCHEMA_VERSION:
                _migrate(connection)
        except BaseException:
            connection.close()
            raise
    return connection


def open_for_reading(path: Path, *, alone: bool = False) -> sqlite3.Connection:
    """Open an existing journal on a connection that only reads.

    Args:
        path: the journal.
        alone: nothing writes it through another connection of this process.

    Raises:
        UserError: there is none, or it cannot be read.
        OutsideWorld: input/output error.
    """
    if not path.is_file():
        raise UserError("there is no journal here", where=str(path), mend="Name a run's folder")
    with explained(path):
        uri = path.resolve().as_uri()
        try:
            return _reader(f"{uri}?mode=ro", path)
        except sqlite3.OperationalError:
            # A folder that may not be written takes no shared-memory file. Without a log, the
            # main file is the whole journal and nobody writes it.
            if not alone or path.with_name(f"{path.name}-wal").exists():
                raise
            return _reader(f"{uri}?mode=ro&immutable=1", path)


def _reader(uri: str, path: Path) -> sqlite3.Connection:
    connection = _connect(uri, uri=True)
    try:
        connection.execute("PRAGMA cache_size=-65536")
        if not _has_tables(connection):
            raise UserError("the journal is empty", where=str(path), mend="Run its command again")
        if _check(connection, path) < SCHEMA_VERSION:
            _stand_in(connection)
        connection.execute("PRAGMA query_only=1")
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(target: str, *, uri: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(
        target, uri=uri, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA cell_size_check=1")
    return connection


def _has_tables(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone())


def _create(connection: sqlite3.Connection) -> None:
    if _has_tables(connection):
        return
    meta = (("schema_version", str(SCHEMA_VERSION)), ("project_version", __version__))
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in _TABLES:
            connection.execute(statement)
        connection.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", meta)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _refuse_broken(connection: sqlite3.Connection) -> None:
    """Stop before anything is written into a file whose pages do not fit together.

    Raises:
        sqlite3.DatabaseError: they do not.
    """
    (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if said != "ok":
        raise sqlite3.DatabaseError(f"malformed: {said}")


def _migrate(connection: sqlite3.Connection) -> None:
    """Give every row its checksum, all in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have been faster.
        held = connection.execute("SELECT value FROM meta WHERE name = 'schema_version'").fetchone()
        if held != (str(SCHEMA_VERSION),):
            for table, columns in TABLES.items():
                connection.execute(f"ALTER TABLE {table} ADD COLUMN {CHECKSUM} INTEGER")
                made = checksum_of(connection, columns[:-1])
                connection.execute(f"UPDATE {table} SET {CHECKSUM} = {made}")
            version = (str(SCHEMA_VERSION), "schema_version")
            connection.execute("UPDATE meta SET value = ? WHERE name = ?", version)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def checksum_of(connection: sqlite3.Connection, columns: Sequence[str]) -> str:
    """The expression for the checksum that a row of an older schema lacks.

    It is NULL for a row whose body cannot be read, which is refused like any other damaged one.
    """

    def made(*values: Any) -> int | None:
        try:
            for value in values:
                if isinstance(value, bytes):
                    unpack(value)
        except sqlite3.DatabaseError:
            return None
        return checksum(values)

    connection.create_function("made_checksum", -1, made, deterministic=True)
    return f"made_checksum({', '.join(columns)})"


def _stand_in(connection: sqlite3.Connection) -> None:
    """Let the rows of an older schema be read like those of this one."""
    for table, columns in TABLES.items():
        made = f"{checksum_of(connection, columns[:-1])} AS {CHECKSUM}"
        chosen = f"SELECT id, {', '.join(columns[:-1])}, {made} FROM main.{table}"
        # A view of the connection's own hides the table of the same name.
        connection.execute(f"CREATE TEMP VIEW {table} AS {chosen}")


def _check(connection: sqlite3.Connection, path: Path) -> int:
    """The schema's version; refuse a file that is no journal, or one of a newer schema."""
    where = str(path)
    try:
        meta = dict(connection.execute("SELECT name, value FROM meta"))
        version = int(meta["schema_version"])
        if version < 1:
            raise ValueError(version)
    except (KeyError, ValueError):
        raise UserError(DAMAGED, where=where, mend=SET_ASIDE) from None
    except sqlite3.OperationalError as error:
        if "no such" not in str(error):
            raise
        raise UserError(
            "it is a SQLite file of another program", where=where, mend=WRITABLE
        ) from None
    if version > SCHEMA_VERSION:
        raise UserError(
            f"it was written by misalign-bench {meta.get('project_version', '?')} (schema"
            f" {version}; this version reads up to {SCHEMA_VERSION})",
            where=where,
            mend="Upgrade misalign-bench, or name another folder",
        )
    return version
