"""The tables of docs/statistics.md, between its marker comments, from ``figures.json``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from marked_page import put_between

METRICS = ("coverage", "false_failure_rate", "alignment_score")

Figures = Mapping[str, Mapping[str, Any]]


def written(text: str, figures: Figures) -> str:
    """The page with each table that has figures filled in."""
    for name, table in TABLES.items():
        if name in figures:
            text = put_between(text, f"table: {name}", table(figures[name]["rows"]))
    return text


def _coverage(rows: Sequence[Mapping[str, Any]]) -> str:
    shown = []
    for row in rows:
        cells = [f"{row['clusters']:,}", f"{row['correlation']}", f"{row['score']:.2f}"]
        for method in ("bca", "percentile"):
            cells += [_percent(row[method][metric]["covered"]) for metric in METRICS]
        score = row["bca"]["alignment_score"]
        cells += [f"{_percent(score['below'])} / {_percent(score['above'])}"]
        shown.append([*cells, f"{score['half_width']:.4f}"])
    head = ["clusters", "correlation", "AS"]
    head += [
        f"{name}, {method}" for method in ("BCa", "percentile") for name in ("Cov", "FFR", "AS")
    ]
    return _table([*head, "AS missed below / above, BCa", "half-width of AS, BCa"], shown)


def _macro(rows: Sequence[Mapping[str, Any]]) -> str:
    head = ["clusters", "domains", "clusters of the smallest", "true macro AS", "mean estimate"]
    return _table(
        [*head, "covered, BCa", "covered, percentile"],
        [
            [
                f"{row['clusters']:,}",
                str(row["domains"]),
                str(row["smallest"]),
                f"{row['truth']:.4f}",
                f"{row['mean']:.4f}",
                _percent(row["bca"]),
                _percent(row["percentile"]),
            ]
            for row in rows
        ],
    )


def _alike(rows: Sequence[Mapping[str, Any]]) -> str:
    return _table(
        ["clusters", "correlation", "AS of both", "AS", "Coverage", "FFR"],
        [
            [
                f"{row['clusters']:,}",
                f"{row['correlation']}",
                f"{row['score']:.2f}",
                _percent(row["alignment_score"]),
                _percent(row["coverage"]),
                _percent(row["false_failure_rate"]),
            ]
            for row in rows
        ],
    )


def _same_score(rows: Sequence[Mapping[str, Any]]) -> str:
    return _table(
        ["Coverage and FFR of each", "clusters", "correlation", "AS", "by the plain difference"],
        [
            [
                row["trade"],
                f"{row['clusters']:,}",
                f"{row['correlation']}",
                _percent(row["alignment_score"]),
                _percent(row["plain"]),
            ]
            for row in rows
        ],
    )


def _power(rows: Sequence[Mapping[str, Any]]) -> str:
    return _table(
        ["clusters", "correlation", "true difference", "detectable, as estimated", "found"],
        [
            [
                f"{row['clusters']:,}",
                f"{row['correlation']}",
                f"{row['difference']:.4f}",
                f"{row['estimated']:.4f} (sd {row['estimated_sd']:.4f})",
                _percent(row["alignment_score"]),
            ]
            for row in rows
        ],
    )


def _stopping(rows: Sequence[Mapping[str, Any]]) -> str:
    head = ["correlation", "AS", "`--until`", "covered", "half-width at the stop", "bias of AS"]
    return _table(
        [*head, "looks", "clusters asked", "calls / full set", "if the variance were known"],
        [
            [
                f"{row['correlation']}",
                f"{row['score']:.2f}",
                f"{row['until']}",
                _percent(row["covered"]),
                f"{row['half_width']:.4f}",
                f"{row['bias']:+.4f}",
                f"{row['looks']:.1f}",
                f"{row['clusters']:,.0f}",
                _percent(row["ratio"]),
                _percent(row["ideal"]),
            ]
            for row in rows
        ],
    )


TABLES = {
    "coverage": _coverage,
    "macro": _macro,
    "alike": _alike,
    "same_score": _same_score,
    "power": _power,
    "stopping": _stopping,
}


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---:"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
