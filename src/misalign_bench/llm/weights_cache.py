"""The cache of weights: where a pinned file lies, whether it is still the same, who may fetch it.

A file's address is its SHA-256. Beside it lies a stamp (size, modification time, inode, hash); the
file is hashed again as soon as the stamp does not fit.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from misalign_bench.errors import UserError
from misalign_bench.json_text import read_json
from misalign_bench.llm.weights_sources import Progress, WeightFile, sha256_of

LOCK_SECONDS = 0.2


def cache_folder() -> Path:
    """Return this user's cache folder; ``MISALIGN_BENCH_CACHE`` decides if it is set."""
    if own := os.environ.get("MISALIGN_BENCH_CACHE"):
        return Path(own).expanduser().absolute()
    if general := os.environ.get("XDG_CACHE_HOME"):
        return Path(general) / "misalign-bench"
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "misalign-bench"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "misalign-bench"
    return Path.home() / ".cache" / "misalign-bench"


def place_of(file: WeightFile) -> Path:
    """The hash is the address; the ending only tells a person what it is."""
    return cache_folder() / "weights" / (file.sha256 + Path(file.name).suffix)


def cached_file(file: WeightFile) -> Path | None:
    """Return where the file lies if the cache has it.

    Raises:
        UserError: it no longer has the pinned SHA-256.
    """
    place = place_of(file)
    if not place.is_file():
        return None
    try:
        stamp = read_json(_stamp_path(file).read_text("utf-8"))
    except (OSError, ValueError):
        stamp = None
    if stamp != _stamp(file):
        check(file)
    return place


def check(file: WeightFile) -> None:
    """Hash the cached file; a wrong one is reported and left where it is."""
    place = place_of(file)
    sha256 = sha256_of(place)
    if sha256 != file.sha256:
        raise UserError(
            f"{file.name} has SHA-256 {sha256}, pinned is {file.sha256}",
            where=str(place),
            mend="Delete it and get it again",
        )
    write_stamp(file)


def _stamp(file: WeightFile) -> dict[str, int | str]:
    status = place_of(file).stat()
    return {
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "inode": status.st_ino,
        "sha256": file.sha256,
    }


def _stamp_path(file: WeightFile) -> Path:
    return place_of(file).with_suffix(".stamp")


def write_stamp(file: WeightFile) -> None:
    """Note what the file looks like now, whose hash is the pinned one."""
    # A cache that is shared read-only works without a stamp; it is only hashed each time.
    with suppress(OSError):
        fresh = _stamp_path(file).with_suffix(f".stamp-{os.getpid()}")
        fresh.write_text(json.dumps(_stamp(file)), "utf-8")
        os.replace(fresh, _stamp_path(file))


@contextmanager
def lock(file: WeightFile, progress: Progress) -> Iterator[None]:
    """Let one process at a time fetch a file."""
    path = place_of(file).with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as stream:
        if not _try_lock(stream):
            progress(f"waiting for another process that fetches {file.name}", 0, file.size)
            while not _try_lock(stream):
                time.sleep(LOCK_SECONDS)
        yield


def _try_lock(stream: IO[bytes]) -> bool:
    """Lock until the stream is closed, or say that another process holds the lock."""
    try:
        if sys.platform == "win32":
            import msvcrt

            stream.seek(0)
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True


def sync(place: Path) -> None:
    """Make the file and its name durable (Windows has no such call for a file open to read)."""
    for path in () if sys.platform == "win32" else (place, place.parent):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
