"""The two pictures of the first screen: the targets with their intervals, joint against single.

Each picture is three charts side by side, one per metric, so that it folds into one column on a
phone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from misalign_bench.records import CONDITIONS, Score
from misalign_bench.report.cells import Cell
from misalign_bench.report.chart_parts import METRICS, Chart, altair, finished, share
from misalign_bench.report.entrants import Entrant, headline, of_condition

PARTS: tuple[str, ...] = CONDITIONS
"""Rows of the second picture: all dimensions at once, then each by itself."""

_STEP, _GAP = 18, 16


@dataclass(frozen=True, slots=True)
class Parts:
    """The second picture. ``conditions``: each part is a question of its own, not a column."""

    conditions: bool
    charts: tuple[Chart, ...]


def interval_charts(everyone: Sequence[Entrant]) -> tuple[Chart, ...]:
    """Coverage, FFR and AS of every target, with intervals; joint where it was measured."""
    shown = headline(everyone)
    return tuple(
        _metric_chart(
            f"chart-leaderboard-{metric}",
            metric,
            f"of {len(shown)} targets, with 95% intervals",
            _points(
                [_row(one.short, "joint", _metric(one.measured.joint, metric)) for one in shown]
            ),
            34 * len(shown),
        )
        for metric in METRICS
    )


def part_charts(everyone: Sequence[Entrant]) -> Parts:
    """Joint against single: by condition where several were measured, else by dimension."""
    conditions = sum(bool(of_condition(everyone, name)) for name in CONDITIONS) > 1
    shown = headline(everyone)
    cells = list(_by_condition(everyone) if conditions else _by_dimension(shown))
    names = {name for name, _, _ in cells}
    present = [part for part in PARTS if any(held == part for _, held, _ in cells)]
    charts = tuple(
        _metric_chart(
            f"chart-parts-{metric}",
            metric,
            f"of {len(names)} targets, joint and by dimension",
            _bars([_row(name, part, _metric(cell, metric)) for name, part, cell in cells], present),
            _group(present) * len(names),
        )
        for metric in METRICS
    )
    return Parts(conditions, charts)


def _by_condition(everyone: Sequence[Entrant]) -> Iterable[tuple[str, str, Cell]]:
    """Each condition's answers, scored under the joint truth."""
    for one in everyone:
        yield one.short, one.measured.condition, one.measured.joint


def _by_dimension(shown: Sequence[Entrant]) -> Iterable[tuple[str, str, Cell]]:
    for one in shown:
        yield one.short, one.measured.condition, one.measured.joint
        for dimension, cell in one.measured.dimension.items():
            if dimension != one.measured.condition:
                yield one.short, dimension, cell


def _metric(cell: Cell, metric: str) -> Score:
    score: Score = getattr(cell, metric)
    return score


def _row(name: str, part: str, score: Score) -> dict[str, Any]:
    text = "no items" if score.value is None else f"{100 * score.value:.1f}%"
    return {
        "target": name,
        "part": part,
        "value": score.value,
        "low": score.low,
        "high": score.high,
        "text": text,
    }


def _points(rows: Sequence[Mapping[str, Any]]) -> Any:
    """A point per target with its interval and its value."""
    alt = altair()
    base = alt.Chart()
    across = alt.Y("target:N", sort=None, title=None)
    interval = (
        base.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=4, strokeCap="round", opacity=0.45, color="var(--accent)")
        .encode(x=share("low"), x2="high:Q", y=across)
    )
    known = base.transform_filter("isValid(datum.value)")
    point = known.mark_point(
        filled=True, size=58, opacity=1, color="var(--accent)", stroke="var(--page)"
    ).encode(x=share("value"), y=across)
    text = base.mark_text(align="left", dx=9, fontSize=12, color="var(--ink)").encode(
        x=alt.datum(1), y=across, text="text:N"
    )
    return alt.layer(interval, point, text, data=alt.Data(values=list(rows)))


def _bars(rows: Sequence[Mapping[str, Any]], parts: Sequence[str]) -> Any:
    """A bar per target and part with its interval and its value.

    Each part is a layer that stands so many pixels from the middle of its target.
    """
    alt = altair()
    base = alt.Chart()
    across = alt.Y("target:N", sort=None, title=None, scale=alt.Scale(padding=0))
    layers = []
    for place, part in enumerate(parts):
        offset = (place - (len(parts) - 1) / 2) * _STEP
        own = base.transform_filter(f"datum.part == '{part}'")
        bar = own.mark_bar(
            height=_STEP - 5, yOffset=offset, cornerRadiusEnd=2, color=f"var(--{part})"
        ).encode(x=share("value"), y=across)
        interval = (
            own.transform_filter("isValid(datum.low)")
            .mark_rule(yOffset=offset, strokeWidth=1.5, color="var(--ink)", opacity=0.75)
            .encode(x=share("low"), x2="high:Q", y=across)
        )
        text = own.mark_text(
            align="left", dx=9, yOffset=offset, fontSize=11, color="var(--ink)"
        ).encode(x=alt.datum(1), y=across, text="text:N")
        layers += [bar, interval, text]
    return alt.layer(*layers, data=alt.Data(values=list(rows)))


def _group(parts: Sequence[str]) -> int:
    """Height of one target's bars and the gap around them, in pixels."""
    return _STEP * len(parts) + _GAP


def _metric_chart(identity: str, metric: str, what: str, chart: Any, height: int) -> Chart:
    title = METRICS[metric]
    better = "lower is better" if metric == "false_failure_rate" else "higher is better"
    return finished(identity, title, better, f"{title} {what}.", chart, height)
