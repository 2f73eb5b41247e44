"""The results as Markdown: one table for each thing that is measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from document import grid

Result = dict[str, Any]

TITLES = {
    "fingerprints": "Texts to codes",
    "joins": "Codes to all pairs at most 10 bits apart",
    "pairs": "Texts to all pairs at least 0.7 similar",
}


def markdown(report: dict[str, Any]) -> str:
    """Return all tables, with the machine and the versions."""
    results: list[Result] = report["results"]
    parts = [_machine(report)]
    for group, title in TITLES.items():
        rows = [result for result in results if result["group"] == group]
        if rows:
            parts.append(f"### {title}\n\n{_table(group, rows)}")
    parts.append(_first_calls(results))
    return "\n\n".join(parts) + "\n"


def _machine(report: dict[str, Any]) -> str:
    machine = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    source = "published prompts, then generated ones" if machine["published"] else "generated"
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, Python "
        f"{machine['python']}; {versions}. Texts: {source}. Every contender may use all cores. "
        "A time with ≈ is scaled up from the part that was timed."
    )


def _table(group: str, rows: Sequence[Result]) -> str:
    ours = {
        row["size"]: row["seconds"]
        for row in rows
        if row["title"] in ("ours", "ours, verified") and "failed" not in row
    }
    if group == "fingerprints":
        head = ["contender", "texts", "timed", "seconds", "texts/s", "ours is", "MiB"]
        return grid(head, [_fingerprint(row, ours) for row in rows])
    head = ["contender", "N", "timed", "seconds", "ours is", "pairs", "recall", "wrong", "MiB"]
    return grid(head, [_pairs(row, ours) for row in rows])


def _fingerprint(row: Result, ours: dict[int, float]) -> list[str]:
    if "failed" in row:
        return _failed(row, 7)
    rate = f"{row['size'] / row['seconds']:,.0f}"
    return [*_start(row), rate, _ratio(row, ours), f"{row['growth_mib']:,.0f}"]


def _pairs(row: Result, ours: dict[int, float]) -> list[str]:
    if "failed" in row:
        return _failed(row, 9)
    whole = row["done"] >= row["rows"]
    recall, wrong = _recall(row)
    found = f"{row['found']:,}" if whole else f"{row['found']:,} so far"
    return [
        *_start(row),
        _ratio(row, ours),
        found,
        recall,
        wrong,
        f"{row['growth_mib']:,.0f}",
    ]


def _start(row: Result) -> list[str]:
    whole = row["done"] >= row["rows"]
    timed = "all" if whole else f"{row['done']:,} rows"
    estimated = "" if whole and row["weight"] == 1 else "≈ "
    return [row["title"], f"{row['size']:,}", timed, f"{estimated}{_seconds(row['seconds'])}"]


def _recall(row: Result) -> tuple[str, str]:
    if row["whole"]:
        return "the truth", ""
    if check := row.get("check"):
        return _share(check), f"{check['wrong']:,}"
    if planted := row.get("planted"):
        return f"{_share(planted)} planted", ""
    return "", ""


def _share(counts: dict[str, int]) -> str:
    """Return a share that says 1 only if it is."""
    if not counts["true"]:
        return "none to find"
    if counts["hits"] == counts["true"]:
        return f"1 ({counts['true']:,})"
    return f"{min(counts['hits'] / counts['true'], 0.999):.3f} of {counts['true']:,}"


def _ratio(row: Result, ours: dict[int, float]) -> str:
    fastest = ours.get(row["size"])
    if fastest is None or row["seconds"] == fastest:
        return ""
    ratio = row["seconds"] / fastest
    return f"{ratio:,.0f}x faster" if ratio >= 10 else f"{ratio:.1f}x faster"


def _seconds(seconds: float) -> str:
    if seconds >= 100:
        return f"{seconds:,.0f}"
    return f"{seconds:.3g}"


def _failed(row: Result, columns: int) -> list[str]:
    return [row["title"], f"{row['size']:,}", f"failed: {row['failed']}"] + [""] * (columns - 3)


def _first_calls(results: Sequence[Result]) -> str:
    """Say what the first call costs: compiling once a machine, loading once a process."""
    lines = []
    for group in ("fingerprints", "joins"):
        calls = [
            row["first_call"]
            for row in results
            if row["group"] == group and row["title"] == "ours" and "failed" not in row
        ]
        if calls:
            later = f"; {min(calls[1:]):.2g} s in a later process" if calls[1:] else ""
            lines.append(f"{TITLES[group].lower()}: {calls[0]:.2g} s on a machine{later}")
    return (
        "First call of ours, apart from the times above (imports, and compiles or loads): "
        + "; ".join(lines)
        + "."
    )
