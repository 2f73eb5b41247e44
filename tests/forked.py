"""Commands in processes forked from one that has loaded the modules, and what a kill leaves.

A command that starts from nothing spends most of a short run on imports. Here nearly all of its
time, and so nearly every moment of a kill, is the work itself.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from misalign_bench.journal.store import Entry, Journal

FORKS = multiprocessing.get_context("forkserver")
LOADED = (
    *("misalign_bench.cli.main", "misalign_bench.cli.build", "misalign_bench.cli.bench"),
    *("misalign_bench.cli.progress", "misalign_bench.cli.report", "misalign_bench.llm.openai"),
    *("misalign_bench.build.pipeline", "misalign_bench.build.plan_pairs"),
    *("misalign_bench.build.judged_draws", "misalign_bench.report.card"),
    *("misalign_bench.bench.measure", "misalign_bench.bench.framing"),
    *("misalign_bench.suites.savacu", "misalign_bench.report.write"),
    *("aiohttp", "jinja2", "jsonschema", "pyarrow.parquet", "pandas", "forked"),
)
"""What is loaded once; a name that is not installed is passed over."""
FORKS.set_forkserver_preload(list(LOADED))


@dataclass(frozen=True)
class Said:
    """How a command ended (None: it has not) and what it wrote."""

    code: int | None
    out: str
    err: str


class Forked:
    """A running ``misalign-bench`` command, given by what is typed after that name."""

    def __init__(self, typed: list[str]) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="forked-")
        # A daemon, so that what a failed test leaves running ends with the tests.
        self._process = FORKS.Process(target=_run, args=(typed, self._place.name), daemon=True)
        self._process.start()

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def finish(self, seconds: float = 120.0) -> Said:
        """Wait for its end; one that takes longer is killed, which its code then says."""
        self._process.join(seconds)
        return self.said() if self._process.exitcode is not None else self._killed()

    def kill(self) -> bool:
        """End it now; whether the signal found it alive."""
        return self._killed().code == -signal.SIGKILL

    def said(self) -> Said:
        """What it has written so far."""
        out, err = ((Path(self._place.name) / name) for name in ("out", "err"))
        written = [path.read_text() if path.is_file() else "" for path in (out, err)]
        return Said(self._process.exitcode, *written)

    def _killed(self) -> Said:
        self._process.kill()
        self._process.join()
        return self.said()


def journal_now(folder: Path) -> dict[str, Entry]:
    """The answers in a killed run's journal, read from a copy so that the folder stays as it is."""
    with tempfile.TemporaryDirectory(prefix="journal-") as aside:
        for file in folder.glob("journal.sqlite*"):
            # Shared memory is rebuilt from the log, as after a loss of power.
            if not file.name.endswith("-shm"):
                shutil.copy(file, aside)
        path = Path(aside) / "journal.sqlite"
        if not path.is_file():
            return {}
        with Journal.open(path) as journal:
            return {entry.key: entry for entry in journal.entries()}


def _run(typed: list[str], place: str) -> None:
    from misalign_bench.cli.main import main

    for number, name in ((1, "out"), (2, "err")):
        opened = os.open(Path(place) / name, os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    code = main(typed)
    sys.stdout.flush()
    sys.stderr.flush()
    # Nothing of the parent's is tidied up here.
    os._exit(code)
