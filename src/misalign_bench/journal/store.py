"""The journal: every answered model call, durable before it is used (contract, section 1).

``put`` returns after a commit that has reached the disk, and returns what the store holds: the
first answer written under a key is the answer, whoever wrote it. Resuming a run is running it
again over the same journal.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import sqlite3
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from operator import add
from pathlib import Path
from typing import Any

from misalign_bench.errors import UserError
from misalign_bench.journal.database import (
    INSERT_ANSWER,
    INSERT_ATTEMPT,
    INSERT_ENDPOINT,
    SELECT_ANSWER,
    open_for_reading,
    open_for_writing,
)
from misalign_bench.journal.entries import (
    ANSWER_COLUMNS,
    ATTEMPT_COLUMNS,
    ENDPOINT_COLUMNS,
    Attempt,
    Entry,
    Row,
    Totals,
    answer_row,
    attempt_row,
    entry_of,
    opened,
    plain,
    sealed,
)
from misalign_bench.journal.failures import explained
from misalign_bench.journal.redaction import without_credentials
from misalign_bench.journal.writer import Write, Writer

__all__ = ["Attempt", "Entry", "Journal", "Totals"]

_PAGE = 500


class Journal:
    """An open journal. Reads are synchronous and see every commit; any thread may read.

    Several processes may share one file; each sees what the others committed.
    """

    def __init__(self, path: Path, reader: sqlite3.Connection, writer: Writer | None) -> None:
        self.path = path
        self._reader = reader
        self._writer = writer
        self._gate = threading.Lock()
        self._known: dict[str, tuple[set[str], set[str]]] = {}

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Journal:
        """Open the journal at ``path``; unless ``read_only``, it is made if there is none.

        Raises:
            UserError: no journal, damaged, newer, or a folder that may not be written.
            OutsideWorld: full disk, input/output error, locked by another process.
        """
        if read_only:
            return cls(path, open_for_reading(path, alone=True), None)
        connection = open_for_writing(path)
        try:
            reader = open_for_reading(path)
        except BaseException:
            connection.close()
            raise
        return cls(path, reader, Writer(connection, path))

    def get(self, key: str) -> Entry | None:
        """The stored answer under ``key``, if there is one.

        Raises:
            UserError: the file is damaged.
            OutsideWorld: input/output error.
        """
        with explained(self.path):
            rows = self._rows(SELECT_ANSWER, (key,))
            return _answer_to(key, rows[0]) if rows else None

    async def put(self, entry: Entry) -> Entry:
        """Store an answer unless its key has one; return what the store holds, durably.

        A cancelled ``put`` may still store its answer; it is then replayed like any other.

        Raises:
            TypeError: a body is not JSON-able.
            UserError: the journal may no longer be written.
            OutsideWorld: full disk or input/output error; nothing of this commit is acknowledged.
        """
        waiter: asyncio.Future[Row] = asyncio.get_running_loop().create_future()
        self._submit(Write(INSERT_ANSWER, answer_row(entry), waiter, entry.key))
        row = await waiter
        with explained(self.path):
            return _answer_to(entry.key, row)

    async def attempt(self, attempt: Attempt) -> None:
        """Record a try in one of the next commits, without waiting for it.

        Raises:
            UserError: an earlier commit failed.
        """
        self._submit(Write(INSERT_ATTEMPT, attempt_row(attempt)))

    def entries(self, *, role: str | None = None, model: str | None = None) -> Iterator[Entry]:
        """Answers in the order of their writing, which differs from run to run."""
        # Pages instead of one long cursor: a cursor would hold this connection at one point in
        # time and keep the log from being folded into the file.
        for row in self._pages("answers", ANSWER_COLUMNS, {"role": role, "model": model}):
            with explained(self.path):
                entry = entry_of(row)
            yield entry

    def attempts(self, *, kind: str | None = None) -> Iterator[Attempt]:
        """Attempts in the order of their writing, all or those of one kind."""
        for row in self._pages("attempts", ATTEMPT_COLUMNS, {"kind": kind}):
            with explained(self.path):
                attempt = Attempt(*opened(row))
            yield attempt

    def count(self) -> int:
        """How many answers are stored."""
        with explained(self.path):
            number: int = self._rows("SELECT COUNT(*) FROM answers")[0][0]
        return number

    def keys(self) -> set[str]:
        """The keys of all answers."""
        with explained(self.path), self._gate:
            return {key for (key,) in self._reader.execute("SELECT key FROM answers")}

    def totals(self) -> dict[tuple[str, str], Totals]:
        """Sums for each (role, model), sorted."""
        # Not by SQLite's sums, which would count a row that is no longer as it was written.
        sums: defaultdict[tuple[str, str], list[Any]] = defaultdict(
            lambda: [0, 0, 0, 0, 0.0, 0, 0.0]
        )
        with explained(self.path):
            for row in self._pages("answers", ANSWER_COLUMNS, {}):
                _, role, model, *_, sent, written, cached, cost, seconds, _, _, _ = opened(row)
                added = (1, sent, written, cached, cost or 0.0, cost is None, seconds)
                held = sums[role, model]
                held[:] = map(add, held, added)
        tries = Counter((one.role, one.model, one.kind) for one in self.attempts())
        totals = {place: Totals(*held) for place, held in sums.items()}
        for (role, model, kind), number in sorted(tries.items()):
            known = totals.get((role, model), Totals())
            errors = known.errors if kind == "ok" else {**known.errors, kind: number}
            totals[role, model] = replace(known, attempts=known.attempts + number, errors=errors)
        return dict(sorted(totals.items()))

    def watch_endpoint(self, model: str, endpoint: str, served: str, same_model: bool) -> None:
        """Compare what a model name stands for with what it stood for before in this journal.

        Args:
            model: the model's identity (name and revision), so that a new revision starts afresh.
            endpoint: its base URL, or an empty string where there is none.
            served: what the server says it serves, or an empty string where it does not say.
            same_model: record a new value instead of refusing it.

        Raises:
            UserError: base URL or served model changed, and ``same_model`` is false.
        """
        endpoint, served = plain(without_credentials(endpoint)), plain(served)
        endpoints, fingerprints = self._recorded(model)
        changed = ""
        if endpoint and endpoints and endpoint not in endpoints:
            changed = f"came from {_shown(endpoints)} before and comes from {endpoint} now"
        elif served and fingerprints and served not in fingerprints:
            changed = f"was served as {_shown(fingerprints)} before and is served as {served} now"
        if changed and not same_model:
            raise UserError(
                f"{model} {changed}",
                where=str(self.path),
                mend="Give it a `revision:` if it is another model, or say `same_model: true`",
            )
        if endpoint in {"", *endpoints} and served in {"", *fingerprints}:
            return
        waiter: concurrent.futures.Future[Row] = concurrent.futures.Future()
        row = sealed(plain(model), endpoint, served)
        self._submit(Write(INSERT_ENDPOINT, row, waiter))
        waiter.result()
        endpoints.update({endpoint} - {""})
        fingerprints.update({served} - {""})

    async def close(self) -> None:
        """Commit what waits and close the file; may be called twice."""
        await asyncio.to_thread(self._close)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        with self._gate:
            self._reader.close()
        if self._writer is not None:
            self._writer.close()

    def _submit(self, write: Write) -> None:
        if self._writer is None:
            raise RuntimeError(f"{self.path}: the journal was opened to be read only")
        self._writer.submit(write)

    def _rows(self, statement: str, values: Row = ()) -> list[Row]:
        with self._gate:
            return self._reader.execute(statement, values).fetchall()

    def _pages(
        self, table: str, columns: tuple[str, ...], wanted: dict[str, str | None]
    ) -> Iterator[Row]:
        held = {name: value for name, value in wanted.items() if value is not None}
        where = " AND ".join(["id > ?", *(f"{name} = ?" for name in held)])
        statement = (
            f"SELECT id, {', '.join(columns)} FROM {table} WHERE {where} ORDER BY id LIMIT {_PAGE}"
        )
        last = 0
        while True:
            with explained(self.path):
                rows = self._rows(statement, (last, *held.values()))
            for row in rows:
                yield row[1:]
            if len(rows) < _PAGE:
                return
            last = rows[-1][0]

    def _recorded(self, model: str) -> tuple[set[str], set[str]]:
        """The known endpoints and served fingerprints of a model, without the unknown ones."""
        if model not in self._known:
            statement = f"SELECT {', '.join(ENDPOINT_COLUMNS)} FROM endpoints"
            with explained(self.path):
                rows = [opened(row) for row in self._rows(statement)]
            rows = [row for row in rows if row[0] == plain(model)]
            endpoints, fingerprints = {row[1] for row in rows}, {row[2] for row in rows}
            self._known[model] = (endpoints - {""}, fingerprints - {""})
        return self._known[model]


def _shown(values: set[str]) -> str:
    return " or ".join(sorted(values))


def _answer_to(key: str, row: Row) -> Entry:
    """The answer in a row that the index gave for ``key``.

    Raises:
        sqlite3.DatabaseError: it is another one, or not as it was written.
    """
    entry = entry_of(row)
    if entry.key != key:
        raise sqlite3.DatabaseError("the index is malformed")
    return entry
