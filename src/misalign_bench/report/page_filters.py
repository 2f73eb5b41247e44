"""How the page writes numbers: shares, intervals, points, costs; what is missing is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from misalign_bench.report.duration import duration
from misalign_bench.report.entrants import short_name


def filters() -> dict[str, Callable[..., Any]]:
    """The filters of the templates, by name."""
    return {
        "percent": percent,
        "interval": interval,
        "points": points,
        "duration": duration,
        "dollars": dollars,
        "heat": heat,
        "short_name": short_name,
        "whole": lambda number: "" if number is None else f"{number:,}",
        "plain_words": lambda name: str(name).replace("_", " "),
    }


def percent(share: float | None, digits: int = 1) -> str:
    """A share for people; a missing one is said so, never shown as zero.

    >>> percent(0.8135), percent(None)
    ('81.3%', 'no items')
    """
    return "no items" if share is None else f"{100 * share:.{digits}f}%"


def interval(score: Any) -> str:
    """The interval of a score, or an empty text.

    >>> from misalign_bench.records import Score
    >>> interval(Score(0.5, 0.4, 0.6123, 40, 40))
    '40.0–61.2'
    """
    if score.low is None or score.high is None:
        return ""
    return f"{100 * score.low:.1f}–{100 * score.high:.1f}"


def points(difference: float) -> str:
    """A difference of two shares in points, with its sign.

    >>> points(0.0312), points(-0.2)
    ('+3.1', '−20.0')
    """
    return f"{100 * difference:+.1f}".replace("-", "−")


def heat(share: float) -> int:
    """The step of the colour scale, 0 to 10."""
    return round(10 * min(1.0, max(0.0, share)))


def dollars(cost: float | None) -> str:
    """A cost; an unknown one is named.

    >>> dollars(0.01234), dollars(12.5), dollars(None)
    ('$0.0123', '$12.50', 'no price')
    """
    if cost is None:
        return "no price"
    return f"${cost:,.4f}" if 0 < cost < 1 else f"${cost:,.2f}"
