"""Ctrl-C: once finishes the calls under way and stops, twice stops now. Both can be resumed.

A call under way is paid for, so its answer is waited for and stored. Whoever cannot wait loses no
more than by ``kill -9``: the calls in flight are asked again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import Any, TypeVar

Result = TypeVar("Result")

_INTERRUPTED = 130


class _Interrupted(Exception):
    """The work was cancelled by Ctrl-C."""


def run_interruptibly(
    work: Coroutine[Any, Any, Result], stopping: Callable[[], object], quiet: bool
) -> Result:
    """Run to the end; the first Ctrl-C cancels the work, the second ends the process.

    Args:
        work: closes what it opened when it is cancelled, and may take its time for that.
        stopping: called before the process is ended.
        quiet: print nothing at the first Ctrl-C.

    Raises:
        KeyboardInterrupt: the work was cancelled by Ctrl-C.
    """
    try:
        return asyncio.run(_listening(work, stopping, quiet))
    except _Interrupted:
        raise KeyboardInterrupt from None


async def _listening(
    work: Coroutine[Any, Any, Result], stopping: Callable[[], object], quiet: bool
) -> Result:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    presses = 0

    def pressed(*_: object) -> None:
        nonlocal presses
        presses += 1
        if presses > 1:
            _stop_now(stopping)
        if not quiet:
            _say("finishing the calls under way. Press Ctrl-C again to stop now")
        loop.call_soon_threadsafe(task.cancel)

    with _heard(pressed):
        try:
            return await task
        except asyncio.CancelledError:
            if presses:
                raise _Interrupted from None
            raise


@contextmanager
def _heard(pressed: Callable[..., None]) -> Iterator[None]:
    """Let the signal come here, unless the process was told to be deaf to it.

    Not by the loop's own handlers: those wait until a long step without calls lets go of the loop.
    """
    before = signal.getsignal(signal.SIGINT)
    if before in (signal.SIG_IGN, None) or current_thread() is not main_thread():
        yield
        return
    signal.signal(signal.SIGINT, pressed)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _stop_now(stopping: Callable[[], object]) -> None:
    """End the process without waiting for anything, an engine's thread included."""
    try:
        stopping()
        if sys.stderr.isatty():
            sys.stderr.write("\x1b[?25h")  # progress bars hide the cursor
        _say("interrupted. Run the same command again to continue")
        sys.stderr.flush()
    finally:
        os._exit(_INTERRUPTED)


def _say(text: str) -> None:
    print(f"misalign-bench: {text}", file=sys.stderr)
