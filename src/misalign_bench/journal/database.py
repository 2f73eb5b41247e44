"""The SQLite file of a journal: its tables, its pragmas, and the checks before it is used.

Write-ahead logging with ``synchronous=FULL``: a commit has reached the disk when it returns, and
readers never wait for the writer (https://www.sqlite.org/wal.html). Bodies lie in rowid order
beside a unique index on the key, so that random keys do not scatter them.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from misalign_bench import __version__
from misalign_bench.errors import UserError
from misalign_bench.journal.entries import ANSWER_COLUMNS, ATTEMPT_COLUMNS
from misalign_bench.journal.failures import DAMAGED, SET_ASIDE, WRITABLE, explained

SCHEMA_VERSION = 1
_BUSY_SECONDS = 30.0

_TABLES = (
    """CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS answers (
        id INTEGER PRIMARY KEY, key TEXT NOT NULL, role TEXT NOT NULL, model TEXT NOT NULL,
        template TEXT NOT NULL, status TEXT NOT NULL, round INTEGER NOT NULL,
        draw INTEGER NOT NULL, epoch INTEGER NOT NULL, input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL, cost REAL,
        latency REAL NOT NULL, created REAL NOT NULL, request BLOB NOT NULL,
        response BLOB NOT NULL)""",
    """CREATE UNIQUE INDEX IF NOT EXISTS answers_key ON answers (key)""",
    """CREATE TABLE IF NOT EXISTS attempts (
        id INTEGER PRIMARY KEY, key TEXT NOT NULL, model TEXT NOT NULL, role TEXT NOT NULL,
        time REAL NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL, latency REAL NOT NULL,
        status INTEGER)""",
    """CREATE TABLE IF NOT EXISTS endpoints (
        id INTEGER PRIMARY KEY, model TEXT NOT NULL, endpoint TEXT NOT NULL,
        served TEXT NOT NULL, UNIQUE (model, endpoint, served))""",
)


def _insert(table: str, columns: tuple[str, ...], *, ignore: bool = False) -> str:
    verb = "INSERT OR IGNORE" if ignore else "INSERT"
    places = ", ".join("?" * len(columns))
    return f"{verb} INTO {table} ({', '.join(columns)}) VALUES ({places})"


INSERT_ANSWER = _insert("answers", ANSWER_COLUMNS, ignore=True)
INSERT_ATTEMPT = _insert("attempts", ATTEMPT_COLUMNS)
INSERT_ENDPOINT = _insert("endpoints", ("model", "endpoint", "served"), ignore=True)
SELECT_ANSWER = f"SELECT {', '.join(ANSWER_COLUMNS)} FROM answers WHERE key = ?"


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open the journal at ``path``, made if there is none, on the connection that writes.

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
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA wal_autocheckpoint=4000")
            connection.execute("PRAGMA cache_size=-65536")
            _create(connection)
            _check(connection, path)
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
        connection.execute("PRAGMA query_only=1")
        connection.execute("PRAGMA cache_size=-65536")
        if not _has_tables(connection):
            raise UserError("the journal is empty", where=str(path), mend="Run its command again")
        _check(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(target: str, *, uri: bool) -> sqlite3.Connection:
    return sqlite3.connect(
        target, uri=uri, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )


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


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file that is no journal, or one of a newer schema."""
    where = str(path)
    try:
        meta = dict(connection.execute("SELECT name, value FROM meta"))
        version = int(meta["schema_version"])
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
