"""One process to a run folder, by a lock that the system releases when the process ends.

A file lock rather than a file with a process number: after ``kill -9`` nothing has to be removed.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from misalign_bench.errors import UserError
from misalign_bench.journal.failures import from_system

_MEND = "Wait until it ends, or name another folder"


class FolderLock:
    """An exclusive lock on ``.lock`` in a folder, held until ``release``."""

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Raises:
            UserError: another process holds it, or the folder may not be written.
            OutsideWorld: the file system does not lock.
        """
        path = folder / ".lock"
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise from_system(error, path) from None
        try:
            _take(self._file)
        except (BlockingIOError, PermissionError):
            holder = _holder(self._file)
            os.close(self._file)
            raise UserError(
                f"another process{holder} works in this run folder", where=str(folder), mend=_MEND
            ) from None
        except OSError as error:
            os.close(self._file)
            raise from_system(error, path) from None
        # The number is only for the message above; a full disk must not stop the run here.
        with suppress(OSError):
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
            os.write(self._file, str(os.getpid()).encode())

    def release(self) -> None:
        """Give the lock back; may be called twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _holder(file: int) -> str:
    with suppress(OSError):
        os.lseek(file, 0, os.SEEK_SET)
        number = os.read(file, 20).decode("ascii", "replace")
        if number.isdigit():
            return f" (number {number})"
    return ""


if sys.platform == "win32":
    import msvcrt

    def _take(file: int) -> None:
        # Windows forbids reading locked bytes, so the lock lies far behind the process number.
        os.lseek(file, 1 << 30, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _take(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
