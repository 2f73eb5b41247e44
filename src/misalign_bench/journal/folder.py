"""The run folder: its lock, its journal's place, its manifest, and files written whole or not.

A folder may be continued with changed settings: the journal replays what is equal, and the
manifest keeps the configurations that came before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

from misalign_bench.errors import OutsideWorld, UserError
from misalign_bench.journal.failures import from_system
from misalign_bench.journal.lock import FolderLock
from misalign_bench.journal.manifest import Manifest, Status

JOURNAL = "journal.sqlite"


class RunFolder:
    """A locked run folder. As a context manager it ends the manifest by how its block ended.

    Attributes:
        path: the folder as the caller wrote it.
        manifest: the manifest of this run, already on disk.
    """

    def __init__(self, path: Path, lock: FolderLock) -> None:
        self.path = path
        self._lock = lock
        self.manifest: Manifest

    @classmethod
    def open(
        cls, path: Path, *, command: str | Sequence[str], settings_dump: Mapping[str, Any]
    ) -> RunFolder:
        """Make the folder if there is none, lock it, and write its manifest as ``running``.

        Args:
            path: the folder.
            command: the arguments as written, or a name for them.
            settings_dump: the resolved configuration, JSON-able.

        Raises:
            UserError: a file is in the way, the folder may not be written or belongs to another
                process, or its manifest is not one of ours.
            OutsideWorld: full disk or input/output error.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise from_system(error, path) from None
        folder = cls(path, FolderLock(path))
        # A run folder lost with the power would take its journal along.
        with suppress(OSError):
            sync_folder(path.parent)
        try:
            folder.manifest = Manifest(path, command, settings_dump, folder.write_atomic)
        except BaseException:
            folder.close()
            raise
        return folder

    @property
    def journal(self) -> Path:
        """Where the run's journal lies."""
        return self.path / JOURNAL

    def write_atomic(self, name: str, content: bytes | Callable[[Path], object]) -> Path:
        """Write a file of the folder so that a reader sees the old one or the whole new one.

        Args:
            name: relative to the folder, ``/`` between folders; missing folders are made.
            content: the bytes, or a function that writes them to the path it is given.

        Returns:
            The path of the file, durable.

        Raises:
            UserError: a folder is in the way, or may not be written.
            OutsideWorld: full disk or input/output error; the old file is untouched.
        """
        path = self._inside(name)
        partial = path.with_name(f".{path.name}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                partial.write_bytes(content)
            else:
                content(partial)
            _sync(partial)
            os.replace(partial, path)
            self._sync_folders(path.parent)
        except OSError as error:
            raise from_system(error, path) from None
        finally:
            with suppress(OSError):
                partial.unlink()
        return path

    def close(self) -> None:
        """Give the lock back; the manifest stays as it is. May be called twice."""
        self._lock.release()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            if error is None and self.manifest.status == "running":
                self.manifest.finish("done")
            elif error is not None:
                # What ended the run must reach the caller, whatever the disk says to this.
                with suppress(UserError):
                    self.manifest.finish(*_ending(error))
        finally:
            self.close()

    def _inside(self, name: str) -> Path:
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts or not relative.name:
            raise ValueError(f"not a file of the run folder: {name!r}")
        return self.path.joinpath(*relative.parts)

    def _sync_folders(self, folder: Path) -> None:
        """Make the new name durable, and the names of folders that were made for it."""
        while folder != self.path:
            sync_folder(folder)
            folder = folder.parent
        sync_folder(self.path)


def _ending(error: BaseException) -> tuple[Status, str]:
    if isinstance(error, OutsideWorld):
        return "stopped", str(error)
    if isinstance(error, UserError):
        return "failed", str(error)
    if isinstance(error, Exception):
        # Its message may hold anything, a prompt or a path of this machine.
        return "failed", f"unexpected {type(error).__name__}"
    return "stopped", "interrupted"


def _sync(path: Path) -> None:
    # Windows syncs only what was opened for writing.
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
