"""The one thread that writes to the journal, in group commits.

It takes everything that waits (at most 100 writes), commits once, then acknowledges; with nothing
waiting it commits a single write at once. One sync to disk thus serves all calls that finished
meanwhile, which is what makes durability cheap under load.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue

from misalign_bench.errors import OutsideWorld, UserError
from misalign_bench.journal.database import SELECT_ANSWER
from misalign_bench.journal.entries import Row
from misalign_bench.journal.failures import DEFECTS, again, from_sqlite

MOST_IN_A_COMMIT = 100

Waiter = asyncio.Future[Row] | concurrent.futures.Future[Row]
Outcome = Row | BaseException


@dataclass(frozen=True, slots=True)
class Write:
    """One statement to execute.

    ``waiter`` learns the row that the store holds after the commit, or why there was none.
    ``key`` names the answer to read back where the statement ignored its row.
    """

    statement: str
    row: Row
    waiter: Waiter | None = None
    key: str = ""


class Writer:
    """Owns the write connection. After a failed commit it refuses every write with its reason."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._queue: SimpleQueue[Write | None] = SimpleQueue()
        self._gate = threading.Lock()
        self._closed = False
        self._failure: BaseException | None = None
        # A daemon, so that a command that ends by an exception is not held up by it.
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._thread.start()

    def submit(self, write: Write) -> None:
        """Queue a write; its waiter hears of it.

        Raises:
            UserError: an earlier commit failed.
            RuntimeError: the journal is closed.
        """
        if self._failure is not None:
            raise _copy(self._failure)
        with self._gate:
            if self._closed:
                raise RuntimeError(f"{self._path}: the journal is closed")
            self._queue.put(write)

    def close(self) -> None:
        """Commit what waits, fold the log into the main file, and end the thread."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        open_ = True
        while open_:
            batch, open_ = self._take()
            if batch:
                self._serve(batch)
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()

    def _take(self) -> tuple[list[Write], bool]:
        """Everything that waits, and whether more may come; blocks only while nothing waits."""
        batch: list[Write] = []
        write = self._queue.get()
        while write is not None:
            batch.append(write)
            if len(batch) == MOST_IN_A_COMMIT:
                return batch, True
            try:
                write = self._queue.get_nowait()
            except Empty:
                return batch, True
        return batch, False

    def _serve(self, batch: list[Write]) -> None:
        """Commit a batch and tell its waiters; whatever happens, each of them is told."""
        outcomes: list[Outcome] = []
        if self._failure is None:
            try:
                outcomes = self._commit(batch)
            except BaseException as error:
                self._failure = _reason(error, self._path)
                self._roll_back()
        if self._failure is not None:
            outcomes = [_copy(self._failure) for _ in batch]
        _tell(batch, outcomes)

    def _commit(self, batch: list[Write]) -> list[Outcome]:
        connection = self._connection
        outcomes: list[Outcome] = []
        ignored: list[int] = []
        connection.execute("BEGIN IMMEDIATE")
        for place, write in enumerate(batch):
            try:
                cursor = connection.execute(write.statement, write.row)
            except (OverflowError, *DEFECTS) as error:
                # A value that no column holds, such as a token count of 30 digits, is the fault
                # of this row alone.
                outcomes.append(_unstorable(error, self._path))
                continue
            outcomes.append(write.row)
            if write.key and cursor.rowcount == 0:
                ignored.append(place)
        connection.execute("COMMIT")
        for place in ignored:
            held = connection.execute(SELECT_ANSWER, (batch[place].key,)).fetchone()
            # Neither stored nor there before: not-a-number, which SQLite takes for NULL.
            outcomes[place] = held or _unstorable(ValueError("not a number"), self._path)
        return outcomes

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")


def _reason(error: BaseException, path: Path) -> BaseException:
    return from_sqlite(error, path) if isinstance(error, sqlite3.Error) else error


def _copy(failure: BaseException) -> BaseException:
    return again(failure) if isinstance(failure, UserError) else failure


def _unstorable(error: Exception, path: Path) -> Exception:
    if isinstance(error, DEFECTS):
        return error
    return OutsideWorld(f"an answer holds a value that cannot be stored ({error})", str(path))


def _tell(batch: list[Write], outcomes: list[Outcome]) -> None:
    """Give each waiter its outcome, with one call into each event loop."""
    loops: dict[asyncio.AbstractEventLoop, list[Callable[[], None]]] = {}
    for write, outcome in zip(batch, outcomes, strict=True):
        if isinstance(write.waiter, asyncio.Future):
            calls = loops.setdefault(write.waiter.get_loop(), [])
            calls.append(_settling(write.waiter, outcome))
        elif write.waiter is not None:
            _settling(write.waiter, outcome)()
    for loop, calls in loops.items():
        # A loop that was closed meanwhile has nobody left to tell.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_all_of, calls)


def _settling(waiter: Waiter, outcome: Outcome) -> Callable[[], None]:
    def settle() -> None:
        if waiter.done():
            return
        if isinstance(outcome, BaseException):
            waiter.set_exception(outcome)
        else:
            waiter.set_result(outcome)

    return settle


def _all_of(calls: list[Callable[[], None]]) -> None:
    for call in calls:
        call()
