"""What SQLite and the operating system say, as one line that a person can act on.

Full disks, input and output errors and locks are the outside world (exit code 3, resumable);
a folder that may not be written and a file that is no journal are for the caller to mend (exit
code 2). Result codes: https://www.sqlite.org/rescode.html.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from misalign_bench.errors import OutsideWorld, UserError

KEPT = "what is stored so far is kept"
RESUME = f"Mend that and run the same command again; {KEPT}"
FREE = f"Free some space and run the same command again; {KEPT}"
WRITABLE = "Choose a folder that exists and that you may write to"
DAMAGED = "it is damaged, or no journal at all"
SET_ASIDE = (
    "Move it away, or keep what is intact in it: misalign-bench repair on its folder. Calls that"
    " are not in a journal are asked again"
)

# SQLite's own wording, because Python 3.10 does not give the result code.
_SQLITE: tuple[tuple[str, type[UserError], str, str], ...] = (
    ("disk is full", OutsideWorld, "the disk is full", FREE),
    ("readonly", UserError, "it may not be written", WRITABLE),
    ("unable to open", UserError, "it cannot be opened", WRITABLE),
    ("i/o error", OutsideWorld, "the disk gave an input/output error", RESUME),
    ("locked", OutsideWorld, "another process keeps it locked", "Wait for it, then run again"),
    ("not a database", UserError, DAMAGED, SET_ASIDE),
    ("malformed", UserError, DAMAGED, SET_ASIDE),
    ("could not decode", UserError, DAMAGED, SET_ASIDE),
)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_IN_THE_WAY = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR)
# How a program uses sqlite3, not what the disk did: a defect, which keeps its traceback.
DEFECTS = (sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.IntegrityError)


def from_sqlite(error: sqlite3.Error, path: Path) -> UserError:
    """The line for an error of SQLite on the journal at ``path``.

    >>> print(from_sqlite(sqlite3.OperationalError("database is locked"), Path("r/j.sqlite")))
    r/j.sqlite: another process keeps it locked. Wait for it, then run again
    """
    said = str(error)
    for words, kind, what, mend in _SQLITE:
        if words in said.lower():
            return kind(what, where=str(path), mend=mend)
    return OutsideWorld(f"SQLite says: {said}", where=str(path), mend=RESUME)


def from_system(error: OSError, path: Path) -> UserError:
    """The line for an error of the operating system on a file or folder.

    >>> print(from_system(NotADirectoryError(errno.ENOTDIR, "Not a directory"), Path("notes.txt")))
    notes.txt: a file is in the way. Name another folder
    """
    if error.errno in _FULL:
        return OutsideWorld("the disk is full", where=str(path), mend=FREE)
    if error.errno in _REFUSED:
        return UserError("it may not be written", where=str(path), mend=WRITABLE)
    if error.errno in _IN_THE_WAY:
        return UserError("a file is in the way", where=str(path), mend="Name another folder")
    said = error.strerror or str(error)
    return OutsideWorld(f"the system says: {said}", where=str(path), mend=RESUME)


def again(failure: UserError) -> UserError:
    """A fresh copy, because one exception raised in many tasks piles up their tracebacks."""
    return type(failure)(failure.what, failure.where, failure.mend)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite raises inside into the line for a person.

    Raises:
        UserError: the file is damaged, newer or may not be used.
        OutsideWorld: the disk is full, broken or locked.
    """
    try:
        yield
    except DEFECTS:
        raise
    except sqlite3.Error as error:
        raise from_sqlite(error, path) from None
