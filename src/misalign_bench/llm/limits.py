"""How many calls are in flight: as many as the server takes, found by trying and kept by care.

One limiter belongs to one model. While every slot is taken and every call is answered it grows, by
one slot at first and by twice as many after each window (as many answers as slots) that went well.
Each call that the server was too busy for takes one slot away, down to half within one cool-down.
After a step that failed it waits longer before the next, so that a server at its limit refuses few
calls. When nothing is answered any more, one call at a time asks whether the server is back.
Answers that wait for a slow disk count too: with the calls under way they are at most twice the
limit, so that a kill costs no more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Literal

Outcome = Literal["answered", "overloaded", "failed", "other"]
"""``overloaded``: too busy or gone; ``failed``: broken, which means that if it happens in a row."""

_LONGEST_PATIENCE = 32
_FAILURES_IN_A_ROW = 4
_SHORTEST_SILENCE = 16


class Limiter:
    """Adaptive bound on concurrent calls, from ``start`` up to ``cap``, for one event loop.

    Args:
        cool_down: seconds in which the limit is at most halved, and between two calls while
            nothing is answered.
    """

    def __init__(self, start: int, cap: int, cool_down: float = 1.0) -> None:
        self.limit = max(1, start)
        self.cap = max(self.limit, cap)
        self._cool_down = cool_down
        self._in_flight = 0
        self._unstored = 0
        self._answered = 0
        self._step, self._patience, self._probing = 1, 1, False
        self._silence = 0
        self._floor = 1
        self._cut_at = self._resume_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
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
        return _now()

    def release(self, outcome: Outcome, started: float, *, stored: bool = True) -> None:
        """Give the slot back and learn from how the call ended.

        Args:
            outcome: what became of it.
            started: when it began, as ``acquire`` said.
            stored: False for an answer that has yet to be stored; ``stored()`` says when it is.
        """
        if outcome == "answered":
            self._unstored += not stored
            self._silence = 0
            if self._in_flight >= self.limit:
                self._grow()
        elif outcome != "other":
            self._silence += 1
            if outcome == "overloaded" or self._silence >= _FAILURES_IN_A_ROW:
                self._cut(started)
            if self._silence >= max(_SHORTEST_SILENCE, 4 * self.limit):
                self._listen()
        self._give_back()

    def stored(self) -> None:
        """An answer that was released unstored is stored, or lost."""
        self._unstored -= 1
        self._wake()

    def pause(self, seconds: float) -> None:
        """Start nothing for a while: what a server asked of one call holds for all of them."""
        if seconds > 0 and _now() + seconds > self._resume_at:
            self._resume_at = _now() + seconds
            self._resume()

    def _grow(self) -> None:
        """Count an answer of a full house; after windows enough, try more slots."""
        self._answered += 1
        if self._probing and self._answered >= self.limit:
            # A whole window at the new limit went well.
            self._probing, self._answered = False, 0
            self._patience, self._step = 1, 2 * self._step
        if not self._probing and self._answered >= self.limit * (self._patience - 1):
            self._answered = 0
            self._probing = self.limit < self.cap
            self.limit = min(self.cap, self.limit + self._step)

    def _cut(self, started: float) -> None:
        """Take one slot away, or what was never used; at most half of them in one cool-down."""
        if started >= self._cut_at + self._cool_down or self._cut_at == float("-inf"):
            self._cut_at = _now()
            self._floor = max(1, self.limit // 2)
            longer = 2 * self._patience if self._probing else 2
            self._patience = max(self._patience, min(_LONGEST_PATIENCE, longer))
        self._answered, self._step, self._probing = 0, 1, False
        self.limit = min(self.limit, max(self._floor, min(self.limit, self._in_flight) - 1))

    def _listen(self) -> None:
        """Where nothing is answered any more, send one call in each cool-down."""
        self.limit, self._step, self._probing, self._patience = 1, 1, False, 1
        self.pause(self._cool_down)

    def _free(self) -> bool:
        room = self._in_flight < self.limit and self._in_flight + self._unstored < 2 * self.limit
        return room and _now() >= self._resume_at

    def _give_back(self) -> None:
        self._in_flight -= 1
        self._wake()

    def _resume(self) -> None:
        """Wake who waits when the pause is over; a timer may be early, or the pause longer now."""
        if self._timer is not None:
            self._timer.cancel()
        if _now() < self._resume_at:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._resume_at, self._resume)
        else:
            self._wake()

    def _wake(self) -> None:
        while self._waiting and self._free():
            turn = self._waiting.popleft()
            if not turn.done():
                self._in_flight += 1
                turn.set_result(None)


def _now() -> float:
    return asyncio.get_running_loop().time()
