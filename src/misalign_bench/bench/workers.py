"""Work through many awaited pieces with a bounded number of them under way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

Piece = TypeVar("Piece")


async def share_out(
    pieces: Iterator[Piece],
    do: Callable[[Piece], Awaitable[None]],
    at_once: int,
    settled: Callable[[], None] = lambda: None,
) -> None:
    """Do every piece, at most ``at_once`` at a time; if one raises, stop the others.

    ``settled`` is called after each.
    """

    async def work() -> None:
        for piece in pieces:
            await do(piece)
            settled()

    workers = [asyncio.ensure_future(work()) for _ in range(max(1, at_once))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
