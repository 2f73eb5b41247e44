"""What every chart of the page is made of: Vega-Lite by Altair, in the page's own colours.

Colours are custom properties of ``page.css``: one drawing serves light, dark and print.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from misalign_bench.errors import UserError

METRICS = {
    "coverage": "Coverage",
    "false_failure_rate": "FFR",
    "alignment_score": "AS",
}

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


def library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that fits Altair's version.

    Raises:
        UserError: the extra is not installed, or its parts do not fit together.
    """
    drawing = altair()
    try:
        import vl_convert

        bundle = _bundle(vl_convert, ".".join(drawing.SCHEMA_VERSION.split(".")[:2]))
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


def share(field: str) -> Any:
    """A share across, from 0 to 100%."""
    alt = altair()
    axis = alt.Axis(format="%", values=[0, 0.25, 0.5, 0.75, 1], labelFlush=False)
    return alt.X(f"{field}:Q", title=None, axis=axis, scale=alt.Scale(domain=[0, 1], nice=False))


def finished(identity: str, title: str, note: str, what: str, chart: Any, height: int) -> Chart:
    """A chart in the page's manner, as wide as its place and so many pixels high.

    Args:
        identity: id of its place.
        title: heading.
        note: beside the heading.
        what: what it shows, for who cannot see it.
        chart: the Altair chart.
        height: of the drawing without its axis.
    """
    alt = altair()
    description = f"{what} The table gives every number."
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
            titleColor="var(--ink-soft)",
            titleFontSize=11,
            titleFontWeight="normal",
            domainColor="var(--line)",
            gridColor="var(--line)",
            tickColor="var(--line)",
        )
        .configure_axisX(labelColor="var(--ink-soft)", labelFontSize=11, domain=False, ticks=False)
        .configure_axisY(domain=False, ticks=False, grid=False, labelPadding=8)
    )
    # Checking a specification takes longer than all else about a page; tests check every chart.
    specification = drawn.to_dict(validate=False)
    # The address of the schema is not needed to draw, and the page names no host.
    specification.pop("$schema", None)
    return Chart(identity, title, note, description, specification)


def altair() -> Any:
    """The library, or what to do about its absence.

    Raises:
        UserError: the extra is not installed.
    """
    try:
        import altair as library_of_charts
    except ImportError:
        raise _missing() from None
    return library_of_charts


def _missing() -> UserError:
    return UserError(
        "the page needs altair and vl-convert-python, which are not installed",
        mend="pip install 'misalign-bench[page]'",
    )
