"""Further pictures of the page: what other wordings reach, and whether probabilities are true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from misalign_bench.report.chart_parts import METRICS, Chart, altair, finished, share
from misalign_bench.report.entrants import short_name
from misalign_bench.report.framing_spread import Asked, Spread
from misalign_bench.report.label_reliability import Diagram

_ROLES = {
    "other": {"shape": "circle", "size": 46, "opacity": 0.55, "color": "var(--ink-soft)"},
    "default": {"shape": "square", "size": 92, "opacity": 1, "color": "var(--value)"},
    "chosen": {"shape": "diamond", "size": 120, "opacity": 1, "color": "var(--safety)"},
}
"""How a wording is drawn, from what lies below to what lies on top."""

_SQUARE = 210


def framing_charts(spreads: Sequence[Spread]) -> tuple[Chart, ...]:
    """Coverage, FFR and AS of every wording, a line per target, on the split to report on."""
    held = [one for one in spreads if one.wordings]
    if not held:
        return ()
    return tuple(
        finished(
            f"chart-framings-{metric}",
            title,
            "lower is better" if metric == "false_failure_rate" else "higher is better",
            f"{title} of {len(held)} targets under each wording of the question.",
            _wordings([row for spread in held for row in _rows(spread, metric)]),
            34 * len(held),
        )
        for metric, title in METRICS.items()
    )


def reliability_charts(build: str, diagrams: Sequence[Diagram]) -> tuple[Chart, ...]:
    """Mean probability against the share that is there, of the most probable domain.

    Args:
        build: tells the charts of one build from those of another.
        diagrams: of one classifier.
    """
    return tuple(
        finished(
            f"chart-reliability-{build}-{one.dimension}",
            one.dimension,
            f"calibration error {one.error:.3f}" if one.error is not None else "no labels",
            f"Reliability of the classifier in the dimension {one.dimension}.",
            _diagonal(one),
            _SQUARE,
        )
        for one in diagrams
        if one.over == "best_domain" and one.bars
    )


def _rows(spread: Spread, metric: str) -> list[dict[str, Any]]:
    """A row per wording measured on the first split."""
    name = short_name(spread.target)
    if spread.condition != "joint":
        name = f"{name} · {spread.condition}"
    rows = []
    for one in spread.asked:
        cell = one.cells.get(spread.splits[0])
        value = getattr(cell, metric).value if cell else None
        if value is not None:
            rows += [{"target": name, "value": value, "role": role} for role in _roles(one)]
    return rows


def _roles(one: Asked) -> list[str]:
    marked = [name for name, held in (("default", one.default), ("chosen", one.chosen)) if held]
    return marked or ["other"]


def _wordings(rows: Sequence[Mapping[str, Any]]) -> Any:
    """A line from the least to the greatest value of each target, and its wordings on it."""
    alt = altair()
    base = alt.Chart()
    across = alt.Y("target:N", sort=None, title=None)
    line = (
        base.transform_aggregate(low="min(value)", high="max(value)", groupby=["target"])
        .mark_rule(strokeWidth=2, color="var(--line-strong)")
        .encode(x=share("low"), x2="high:Q", y=across)
    )
    marks = [
        base.transform_filter(f"datum.role == '{role}'")
        .mark_point(filled=True, stroke="var(--page)", strokeWidth=1, **drawn)
        .encode(x=share("value"), y=across)
        for role, drawn in _ROLES.items()
    ]
    return alt.layer(line, *marks, data=alt.Data(values=list(rows)))


def _diagonal(diagram: Diagram) -> Any:
    """Bins as points, sized by how many prompts they hold, on the line where they should lie."""
    alt = altair()
    values = [
        {"probability": bar.probability, "share": bar.share, "count": bar.count}
        for bar in diagram.bars
    ]
    axis = alt.Axis(format="%", values=[0, 0.5, 1], grid=True)
    scale = alt.Scale(domain=[0, 1], nice=False)
    x = alt.X("probability:Q", title="mean probability", axis=axis, scale=scale)
    y = alt.Y("share:Q", title="share there", axis=axis, scale=scale)
    line = (
        alt.Chart(alt.Data(values=[{"at": 0}, {"at": 1}]))
        .mark_line(strokeDash=[4, 4], strokeWidth=1, color="var(--ink-soft)")
        .encode(
            x=alt.X("at:Q", title="mean probability", axis=axis, scale=scale),
            y=alt.Y("at:Q", title="share there", axis=axis, scale=scale),
        )
    )
    base = alt.Chart(alt.Data(values=values))
    path = base.mark_line(strokeWidth=1.5, color=f"var(--{diagram.dimension})").encode(x=x, y=y)
    size = alt.Size("count:Q", legend=None, scale=alt.Scale(type="sqrt", range=[24, 260]))
    points = base.mark_point(
        filled=True, opacity=1, color=f"var(--{diagram.dimension})", stroke="var(--page)"
    ).encode(x=x, y=y, size=size)
    return alt.layer(line, path, points)
