"""Write an output file whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Write beside the place and move it there, so that no half file is ever seen.

    Raises:
        UserError: a folder is in the way, or may not be written.
        OutsideWorld: full disk or input/output error.
    """
    from misalign_bench.journal.failures import from_system

    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(unfinished)
        unfinished.replace(path)
    except OSError as error:
        raise from_system(error, path) from None
    finally:
        with suppress(OSError):
            unfinished.unlink()
