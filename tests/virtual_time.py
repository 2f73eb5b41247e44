"""An event loop whose clock jumps to the next timer: minutes of waiting in milliseconds, exactly.

Only for code that waits on timers and on other tasks; nothing here may wait for a socket or a
thread.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop that starts at time zero and never waits."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        """Seconds since the start, as far as timers have moved them."""
        return self.now


class _Jumping(selectors.DefaultSelector):
    """Moves the clock where a real selector would wait."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready now; if nothing is, time passes."""
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everything waits for something that will never happen")
            self._loop.now += timeout
        return ready


def in_virtual_time(work: Coroutine[Any, Any, Result]) -> Result:
    """Run it to its end on a clock of its own."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()
