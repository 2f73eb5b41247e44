"""How many calls are in flight: additive increase, multiplicative decrease.

One limiter belongs to one model. It grows by one for each window of answers that arrived while
every slot was taken, and halves when the server says that it is overloaded (429, 503, timeout).
Within the cool-down after a cut, and for calls that were already under way at the cut, further bad
news is the same news: one burst halves once.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Literal

Outcome = Literal["answered", "overloaded", "other"]


class Limiter:
    """Adaptive bound on concurrent calls, from ``start`` up to ``cap``, for one event loop."""

    def __init__(self, start: int, cap: int, cool_down: float = 1.0) -> None:
        self.limit = max(1, start)
        self.cap = max(self.limit, cap)
        self._cool_down = cool_down
        self._in_flight = 0
        self._answered = 0
        self._cut_at = float("-inf")
        self._resume_at = float("-inf")
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> float:
        """Wait for a slot, first come first served; returns the time at which the call starts."""
        if self._waiting or not self._free():
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._give_back()
                raise
        else:
            self._in_flight += 1
        return time.monotonic()

    def release(self, outcome: Outcome, started: float) -> None:
        """Give the slot back and learn from how the call ended."""
        if outcome == "answered" and self._in_flight >= self.limit:
            self._answered += 1
            if self._answered >= self.limit:
                self._answered = 0
                self.limit = min(self.cap, self.limit + 1)
        elif outcome == "overloaded":
            self._cut(started)
        self._give_back()

    def pause(self, seconds: float) -> None:
        """Start nothing for a while: what a server asked of one call holds for all of them."""
        if seconds > 0:
            self._resume_at = max(self._resume_at, time.monotonic() + seconds)
            asyncio.get_running_loop().call_later(seconds, self._wake)

    def _cut(self, started: float) -> None:
        if started < self._cut_at + self._cool_down:
            return
        self._cut_at = time.monotonic()
        self._answered = 0
        self.limit = max(1, self.limit // 2)

    def _free(self) -> bool:
        return self._in_flight < self.limit and (
            self._resume_at == float("-inf") or time.monotonic() >= self._resume_at
        )

    def _give_back(self) -> None:
        self._in_flight -= 1
        self._wake()

    def _wake(self) -> None:
        while self._waiting and self._free():
            turn = self._waiting.popleft()
            if not turn.done():
                self._in_flight += 1
                turn.set_result(None)
