"""When to try again: exponential backoff with full jitter, and what a server asks for.

Full jitter (a uniform draw between zero and the exponential bound) spreads clients that failed
together. A Retry-After header is honoured up to a cap, since some servers send hours.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the next attempt, in seconds."""

    base: float = 0.5
    cap: float = 30.0
    retry_after_cap: float = 120.0

    def delay(self, attempt: int, retry_after: float | None = None) -> float:
        """Wait after attempt number ``attempt`` (from 0); at least what the server asked for."""
        bound = min(self.cap, self.base * 2 ** min(attempt, 30))
        return self.asked(retry_after) + random.uniform(0.0, bound)

    def asked(self, retry_after: float | None) -> float:
        """What the server asked for, capped; zero if it asked for nothing."""
        return min(retry_after, self.retry_after_cap) if retry_after else 0.0


def parse_retry_after(header: str | None, now: datetime | None = None) -> float | None:
    """Seconds from a Retry-After header (RFC 9110: a number of seconds or a date).

    >>> parse_retry_after("7"), parse_retry_after("soon"), parse_retry_after("-1")
    (7.0, None, None)
    >>> noon = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
    >>> parse_retry_after("Thu, 01 Jan 2026 12:00:30 GMT", noon)
    30.0
    """
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        pass
    else:
        return seconds if 0 <= seconds < float("inf") else None
    try:
        date = parsedate_to_datetime(header)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=timezone.utc)
    return max(0.0, (date - (now or datetime.now(timezone.utc))).total_seconds())
