"""Progress on standard error: bars on a terminal, a line every few seconds elsewhere.

Both show how much is done, the rate of the last half minute (a resumed run replays far faster
than it asks), what was spent, and the time left. Lower floors know nothing of this: they are given
a stage's ``advance`` or ``reach`` as a callback.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from misalign_bench.cli.render import plain
from misalign_bench.llm.secrets import redact
from misalign_bench.report.duration import duration

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

SECONDS_BETWEEN_LINES = 5.0
_SECONDS_BETWEEN_DRAWINGS = 0.1
_WINDOW = 30.0
_SLOT = 0.5


class Stage:
    """One thing that is going on; made by ``Progress.stage``.

    Attributes:
        done: how many of ``total`` are done; ``total`` is None while it is unknown.
        spend: US dollars spent so far.
    """

    def __init__(self, name: str, total: int | None, changed: Callable[[Stage], None]) -> None:
        self.name = _shown(name)
        self.total = total
        self.done = 0
        self.spend = 0.0
        self.note = ""
        self.started = time.monotonic()
        self._changed = changed
        self._seen: deque[tuple[float, int]] = deque([(self.started, 0)])

    def advance(self, n: int = 1, spend: float = 0.0, note: str = "") -> None:
        """Count ``n`` more as done and ``spend`` more dollars; ``note`` replaces the last one."""
        self.spend += spend
        self.note = _shown(note) or self.note
        self.reach(self.done + n)

    def reach(self, done: int, total: int | None = None) -> None:
        """Set how many are done and, if given, of how many."""
        self.done = done
        self.total = self.total if total is None else total
        now = time.monotonic()
        if len(self._seen) > 1 and now - self._seen[-2][0] < _SLOT:
            self._seen.pop()
        self._seen.append((now, done))
        while len(self._seen) > 2 and self._seen[1][0] < now - _WINDOW:
            self._seen.popleft()
        self._changed(self)

    def status(self, took: float | None = None) -> str:
        """The numbers in words: ``12 of 24, 3.1/s, $0.0021, 4.2 s left``, or how long it took."""
        (first, before), (last, now) = self._seen[0], self._seen[-1]
        rate = (now - before) / (last - first) if last > first and took is None else 0.0
        parts = [f"{self.done:,} of {self.total:,}" if self.total is not None else f"{self.done:,}"]
        if rate:
            parts.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s")
        if self.spend:
            parts.append(f"${self.spend:.4f}")
        if rate and self.total is not None and self.done < self.total:
            parts.append(f"{duration((self.total - self.done) / rate)} left")
        if self.note:
            parts.append(self.note)
        return ", ".join(parts if took is None else [*parts, f"took {duration(took)}"])


class Progress:
    """What a command reports while it works; silent if ``quiet``.

    >>> with Progress(quiet=True).stage("classify", total=2) as stage:
    ...     stage.advance()
    ...     stage.status().partition(",")[0]
    '1 of 2'
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._seconds = _SECONDS_BETWEEN_DRAWINGS if self._terminal else SECONDS_BETWEEN_LINES
        self._bars: Bars | None = None
        self._tasks: dict[Stage, TaskID] = {}
        self._shown_at: dict[Stage, float] = {}

    def line(self, text: str) -> None:
        """Print one line, above the bars if there are any."""
        text = _shown(text)
        if self._quiet:
            return
        if self._bars is not None:
            self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Stage]:
        """Show a stage while the block runs; several may be open at once."""
        stage = Stage(name, total, self._changed)
        self._open(stage)
        try:
            yield stage
        finally:
            self._close(stage)

    def _open(self, stage: Stage) -> None:
        if self._quiet:
            return
        self._shown_at[stage] = stage.started
        if not self._terminal:
            return
        if self._bars is None:
            self._bars = _bars()
            self._bars.start()
        self._tasks[stage] = self._bars.add_task(stage.name, total=stage.total, status="")

    def _changed(self, stage: Stage) -> None:
        now = time.monotonic()
        if stage in self._shown_at and now - self._shown_at[stage] >= self._seconds:
            self._shown_at[stage] = now
            self._show(stage, stage.status())

    def _show(self, stage: Stage, status: str) -> None:
        if self._bars is not None:
            task = self._tasks[stage]
            self._bars.update(task, completed=stage.done, total=stage.total, status=status)
        else:
            self.line(f"{stage.name}: {status}")

    def _close(self, stage: Stage) -> None:
        if self._shown_at.pop(stage, None) is None:
            return
        idle = stage.total is None and not stage.done
        if idle and self._bars is not None:
            self._bars.update(self._tasks[stage], visible=False)
        elif not idle:
            stage.total = stage.done if stage.total is None else stage.total
            self._show(stage, stage.status(took=time.monotonic() - stage.started))
        if self._bars is not None:
            self._bars.stop_task(self._tasks.pop(stage))
            if not self._tasks:
                self._bars.stop()
                self._bars = None


def _bars() -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    return Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[status]}", markup=False),
        console=Console(stderr=True),
        # Results go to standard output and must stay there.
        redirect_stdout=False,
        redirect_stderr=False,
    )


def _shown(text: str) -> str:
    return plain(redact(text))
