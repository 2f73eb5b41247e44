"""The pictures of the page as Vega-Lite, made with Altair.

Each picture is three charts side by side, one per metric, so that it folds into one column on a
phone. Colours are custom properties of ``page.css``: one drawing serves light, dark and print.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from misalign_bench.errors import UserError
from misalign_bench.records import CONDITIONS, Score
from misalign_bench.report.bench_run import Cell
from misalign_bench.report.entrants import Entrant, headline, of_condition

METRICS = {
    "coverage": "Coverage",
    "false_failure_rate": "FFR",
    "alignment_score": "AS",
}
PARTS: tuple[str, ...] = CONDITIONS
"""Rows of the second picture: all dimensions at once, then each by itself."""

_STEP, _GAP = 18, 16
_SNIPPET = "window.vegaEmbed = vegaEmbed;"
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of the page: the id of its place, what it shows in words, its Vega-Lite."""

    id: str
    title: str
    better: str
    description: str
    specification: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Parts:
    """The second picture. ``conditions``: each part is a question of its own, not a column."""

    conditions: bool
    charts: tuple[Chart, ...]


def library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that fits Altair's version.

    Raises:
        UserError: the extra is not installed, or its parts do not fit together.
    """
    altair = _altair()
    try:
        import vl_convert

        bundle = _bundle(vl_convert, ".".join(altair.SCHEMA_VERSION.split(".")[:2]))
    except ImportError:
        raise _missing() from None
    except ValueError as error:
        raise UserError(
            f"altair and vl-convert-python do not fit together: {error}",
            mend="pip install --upgrade 'misalign-bench[page]'",
        ) from None
    # A script of its own would leave its one-letter names in the page.
    return f"(()=>{{{bundle}}})();"


@cache
def _bundle(vl_convert: Any, version: str) -> str:
    bundle: str = vl_convert.javascript_bundle(_SNIPPET, vl_version=version)
    return bundle


def interval_charts(everyone: Sequence[Entrant]) -> tuple[Chart, ...]:
    """Coverage, FFR and AS of every target, with intervals; joint where it was measured."""
    shown = headline(everyone)
    return tuple(
        _chart(
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
        _chart(
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
    alt = _altair()
    base = alt.Chart()
    across = alt.Y("target:N", sort=None, title=None)
    interval = (
        base.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=4, strokeCap="round", opacity=0.45, color="var(--accent)")
        .encode(x=_share("low"), x2="high:Q", y=across)
    )
    known = base.transform_filter("isValid(datum.value)")
    point = known.mark_point(
        filled=True, size=58, opacity=1, color="var(--accent)", stroke="var(--page)"
    ).encode(x=_share("value"), y=across)
    text = base.mark_text(align="left", dx=9, fontSize=12, color="var(--ink)").encode(
        x=alt.datum(1), y=across, text="text:N"
    )
    return alt.layer(interval, point, text, data=alt.Data(values=list(rows)))


def _bars(rows: Sequence[Mapping[str, Any]], parts: Sequence[str]) -> Any:
    """A bar per target and part with its interval and its value.

    Each part is a layer that stands so many pixels from the middle of its target.
    """
    alt = _altair()
    base = alt.Chart()
    across = alt.Y("target:N", sort=None, title=None, scale=alt.Scale(padding=0))
    layers = []
    for place, part in enumerate(parts):
        offset = (place - (len(parts) - 1) / 2) * _STEP
        own = base.transform_filter(f"datum.part == '{part}'")
        bar = own.mark_bar(
            height=_STEP - 5, yOffset=offset, cornerRadiusEnd=2, color=f"var(--{part})"
        ).encode(x=_share("value"), y=across)
        interval = (
            own.transform_filter("isValid(datum.low)")
            .mark_rule(yOffset=offset, strokeWidth=1.5, color="var(--ink)", opacity=0.75)
            .encode(x=_share("low"), x2="high:Q", y=across)
        )
        text = own.mark_text(
            align="left", dx=9, yOffset=offset, fontSize=11, color="var(--ink)"
        ).encode(x=alt.datum(1), y=across, text="text:N")
        layers += [bar, interval, text]
    return alt.layer(*layers, data=alt.Data(values=list(rows)))


def _group(parts: Sequence[str]) -> int:
    """Height of one target's bars and the gap around them, in pixels."""
    return _STEP * len(parts) + _GAP


def _share(field: str) -> Any:
    alt = _altair()
    axis = alt.Axis(format="%", values=[0, 0.25, 0.5, 0.75, 1], labelFlush=False)
    return alt.X(f"{field}:Q", title=None, axis=axis, scale=alt.Scale(domain=[0, 1], nice=False))


def _chart(identity: str, metric: str, what: str, chart: Any, height: Any) -> Chart:
    alt = _altair()
    title = METRICS[metric]
    description = f"{title} {what}. The table gives every number."
    drawn = (
        chart.properties(
            width="container",
            height=height,
            autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
            padding={"left": 0, "right": 4, "top": 4, "bottom": 0},
            description=description,
        )
        .configure(background="transparent", font=_FONT)
        .configure_view(stroke=None)
        .configure_axis(
            labelColor="var(--ink)",
            labelFontSize=12,
            labelLimit=150,
            domainColor="var(--line)",
            gridColor="var(--line)",
            tickColor="var(--line)",
        )
        .configure_axisX(labelColor="var(--ink-soft)", labelFontSize=11, domain=False, ticks=False)
        .configure_axisY(domain=False, ticks=False, grid=False, labelPadding=8)
    )
    better = "lower is better" if metric == "false_failure_rate" else "higher is better"
    specification = drawn.to_dict()
    # The address of the schema is not needed to draw, and the page names no host.
    specification.pop("$schema", None)
    return Chart(identity, title, better, description, specification)


def _altair() -> Any:
    try:
        import altair
    except ImportError:
        raise _missing() from None
    return altair


def _missing() -> UserError:
    return UserError(
        "the page needs altair and vl-convert-python, which are not installed",
        mend="pip install 'misalign-bench[page]'",
    )
