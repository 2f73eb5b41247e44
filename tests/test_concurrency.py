"""How many calls are in flight, in virtual time: the limit is found, kept, and found again.

The real client over a server that takes so many calls at once; what it takes moves, or the server
is out for a while. The figures are exact, since nothing here waits for a real clock.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import cache

import pytest

from crowded_server import Crowded, ask_all
from misalign_bench.llm.limits import Limiter
from misalign_bench.llm.model import Failure, Reply, Request
from virtual_time import in_virtual_time

pytestmark = pytest.mark.attack

PHASE = 70
CAPACITIES = (30, 10, 45)
SETTLED = 45
"""Seconds of a phase after which the limit must be found."""
DOWN, BACK = 40, 55

BUSY = Failure("rate_limited", "HTTP 429")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(1)


def moving(second: float) -> int:
    return CAPACITIES[min(int(second / PHASE), len(CAPACITIES) - 1)]


def run(
    capacity: Callable[[float], int],
    seconds: float,
    refusal: Failure = BUSY,
    start: int = 8,
    most: int = 256,
) -> Crowded:
    """A server that was asked for so long; no row may have been left behind."""
    server = Crowded(capacity, start, most, refusal)
    assert in_virtual_time(ask_all(server, seconds, rows=90)) == 0
    return server


@cache
def best_fixed(capacity: int) -> float:
    """Answers a second with the best number of calls in flight, the one that the server takes."""
    server = run(lambda _: capacity, PHASE, start=capacity, most=capacity)
    assert not server.refused
    return server.throughput(SETTLED, PHASE)


@pytest.mark.parametrize(
    ("kind", "retry_after"),
    [("rate_limited", None), ("rate_limited", 1.0), ("unavailable", None)],
)
def test_a_limit_that_moves_is_followed_within_a_tenth_of_the_best_fixed_setting(
    kind: str, retry_after: float | None
) -> None:
    refusal = Failure(kind, "no room", retry_after=retry_after)
    server = run(moving, PHASE * len(CAPACITIES), refusal)
    for phase, capacity in enumerate(CAPACITIES):
        start, end = phase * PHASE + SETTLED, (phase + 1) * PHASE
        assert server.throughput(start, end) > 0.9 * best_fixed(capacity)
        refused = sum(server.refused[second] for second in range(start, end))
        assert refused < 0.02 * sum(server.asked[second] for second in range(start, end))


@pytest.mark.parametrize("kind", ["rate_limited", "unreachable", "connection_lost"])
def test_no_storm_follows_an_outage_and_no_row_is_lost_to_it(kind: str) -> None:
    server = run(lambda second: 0 if DOWN <= second < BACK else 30, 90, Failure(kind, "down"))
    usual = server.throughput(DOWN - 20, DOWN)
    assert server.asked[BACK] <= 2
    assert max(server.asked[second] for second in range(BACK, BACK + 4)) < usual / 2
    assert max(server.asked[second] for second in range(BACK, 90)) < 3 * usual
    # While it is out, one call a second asks whether it is back.
    assert max(server.asked[second] for second in range(DOWN + 3, BACK)) <= 2
    assert server.throughput(75, 90) > 0.9 * usual


class Flaky(Crowded):
    """Also fails one call in five, whatever the load."""

    async def send(self, request: Request, seed: int) -> Reply | Failure:
        if self._chance.random() < 0.2:
            await asyncio.sleep(0.3)
            return self.refusal
        return await super().send(request, seed)


@pytest.mark.parametrize("kind", ["unavailable", "connection_lost"])
def test_a_server_that_breaks_one_call_in_five_is_not_taken_for_a_busy_one(kind: str) -> None:
    server = Flaky(lambda _: 30, refusal=Failure(kind, "now and then"))
    in_virtual_time(ask_all(server, PHASE))
    assert server.throughput(SETTLED, PHASE) > 0.8 * best_fixed(30)


def test_a_longer_pause_holds_back_who_waits_for_a_shorter_one() -> None:
    async def times() -> list[float]:
        limiter = Limiter(2, 2)
        limiter.pause(1.0)
        waiting = [asyncio.ensure_future(limiter.acquire()) for _ in range(2)]
        await asyncio.sleep(0.5)
        limiter.pause(3.0)
        limiter.pause(0.1)
        return list(await asyncio.gather(*waiting))

    assert in_virtual_time(times()) == [3.5, 3.5]


def test_one_busy_answer_costs_one_slot_and_a_burst_at_most_half_of_them() -> None:
    async def limits() -> list[int]:
        limiter = Limiter(64, 64)
        found = []
        for busy in (1, 63):
            started = [await limiter.acquire() for _ in range(limiter.limit)]
            for number, start in enumerate(started):
                limiter.release("overloaded" if number < busy else "other", start)
            found.append(limiter.limit)
            await asyncio.sleep(2)
        return found

    assert in_virtual_time(limits()) == [63, 31]
