"""Print the tables of ``docs/classification.md`` from ``results.json``, as Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results.json"
DIMENSIONS = ("safety", "value", "culture")


def main() -> None:
    """Print every table with a line that names it."""
    found = json.loads(RESULTS.read_text())
    for name, rows in (
        ("one label", _one_label(found["one_label"])),
        *(
            (f"embedder {name}", _embedder(held))
            for name, held in found.get("embedders", {}).items()
        ),
        ("all labels", _all_labels(found["all_labels"])),
        ("ranking", _ranking(found["recall_of_ranking"])),
        ("calibration", _calibration(found["calibration"])),
        ("diagram", _diagram(found["calibration"])),
        ("cascade", _cascade(found["cascade"])),
        ("disagreements", _disagreements(found["disagreements"])),
        ("models", _models(found.get("models", {}))),
        ("real cascade", _real_cascade(found.get("models", {}))),
    ):
        print(f"\n<!-- {name} -->\n")
        print("\n".join(rows))


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *rows]
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _one_label(found: dict[str, Any]) -> list[str]:
    rows: list[list[Any]] = []
    for method in ("untuned logistic regression", "zero-shot", "fitted head"):
        cells = []
        for name in DIMENSIONS:
            held = found[method][name]
            each = " ".join(f"{value:.3f}" for value in held["f1"])
            cells.append(f"{_mean(held['f1']):.3f} ({each})")
        rows.append([method, *cells])
    gain = found["gain of the fitted head"]
    rows.append(
        [
            "fitted head minus logistic regression",
            *(
                f"{gain[name]['mean']:+.3f} [{gain[name]['low']:.3f}, {gain[name]['high']:.3f}]"
                for name in DIMENSIONS
            ),
        ]
    )
    return _table(("micro-F1", *DIMENSIONS), rows)


def _embedder(found: dict[str, Any]) -> list[str]:
    """Heads and regressions on other sentence vectors; ``shipped`` are those of MiniLM."""
    rows: list[list[Any]] = []
    for method in ("regression, shipped", "regression, other", "head, other"):
        cells = []
        for name in DIMENSIONS:
            each = " ".join(f"{value:.3f}" for value in found[method][name])
            cells.append(f"{_mean(found[method][name]):.3f} ({each})")
        rows.append([method, *cells])
    for against in ("gain over regression, shipped", "gain over regression, other"):
        held = [found[against][name] for name in DIMENSIONS]
        gains = [f"{mean:+.3f} [{low:.3f}, {high:.3f}]" for mean, low, high in held]
        rows.append([against, *gains])
    return _table(("micro-F1", *DIMENSIONS), rows)


def _all_labels(found: dict[str, Any]) -> list[str]:
    rows = [
        [
            method,
            name,
            f"{found[method][name].get('delta', 0.5):.2f}",
            *(f"{found[method][name][key]:.3f}" for key in ("precision", "recall", "f1")),
            f"{found[method][name]['labels_per_prompt']:.2f}",
        ]
        for method in ("zero-shot", "fitted head")
        for name in DIMENSIONS
    ]
    columns = ("method", "dimension", "delta", "precision", "recall", "F1", "labels a prompt")
    return _table(columns, rows)


def _ranking(found: dict[str, Any]) -> list[str]:
    kept = sorted(found["zero-shot"]["all"], key=int)
    rows = [
        [method, name, *(f"{found[method][name][key]:.3f}" for key in kept)]
        for method in found
        for name in ("all", *DIMENSIONS)
    ]
    return _table(("ranked by", "labels", *(f"first {key}" for key in kept)), rows)


def _calibration(found: dict[str, Any]) -> list[str]:
    rows = []
    for name in DIMENSIONS:
        held = found[name]
        before = _mean(held["before scaling, out of fold"])
        rows.append(
            [
                name,
                "/".join(sorted(set(held["scaling"]))),
                f"{_mean(held['zero-shot']['best_domain']):.3f}",
                f"{before:.3f}",
                f"{_mean(held['fitted head']['best_domain']):.3f}",
                f"{_mean(held['fitted head']['pairs']):.4f}",
            ]
        )
    columns = (
        "dimension",
        "scaling",
        "zero-shot",
        "head before scaling",
        "head, best domain",
        "head, all pairs",
    )
    return _table(columns, rows)


def _diagram(found: dict[str, Any]) -> list[str]:
    rows: list[list[Any]] = []
    for place in range(10):
        row: list[Any] = [f"{place / 10:.1f} to {(place + 1) / 10:.1f}"]
        for name in DIMENSIONS:
            bars = {round(bar["low"] * 10): bar for bar in found[name]["diagram"]}
            bar = bars.get(place)
            row.append(
                f"{bar['probability']:.2f} / {bar['share']:.2f} ({bar['count']})" if bar else ""
            )
        rows.append(row)
    return _table(("probability", *DIMENSIONS), rows)


def _cascade(found: list[dict[str, Any]]) -> list[str]:
    rows = []
    for row in found:
        band = f"{row['when'][0]} to {row['when'][1]}" if row["when"] else "none"
        cells = [f"{row[name]:.3f} ({row[f'{name}_at_random']:.3f})" for name in DIMENSIONS]
        rows.append([band, f"{row['sent_on']:.3f}", *cells])
    return _table(("band", "share sent on", *DIMENSIONS), rows)


def _disagreements(found: list[dict[str, Any]]) -> list[str]:
    rows = [
        [row[key] for key in ("row", "dimension", "published", "head", "probability")]
        for row in found
    ]
    return _table(("row", "dimension", "published", "head", "probability"), rows)


def _models(found: dict[str, Any]) -> list[str]:
    rows = []
    for name, held in found.items():
        if not held["answered"]:
            rows.append([name, f"0 of {held['prompts']}", *[""] * 5])
            continue
        cells = [
            f"{held[key]['f1']:.2f} / {held[key]['f1_with_fitted_threshold']:.2f}"
            f" ({held[key]['labels']})"
            for key in DIMENSIONS
        ]
        asked = f"{name}, {held['candidates']} candidates" if held["candidates"] else name
        rows.append(
            [
                asked,
                f"{held['answered']} of {held['prompts']}",
                held["seconds_a_prompt"],
                held["labels_a_prompt"],
                *cells,
            ]
        )
    columns = ("model, method", "answered", "seconds a prompt", "labels a prompt", *DIMENSIONS)
    return _table(columns, rows)


def _real_cascade(found: dict[str, Any]) -> list[str]:
    rows = []
    for name, held in found.items():
        for row in held.get("cascade", ()):
            when = row["when"]
            band = f"{when[0]} to {when[1]}" if isinstance(when, list) else when or "none"
            cells = [f"{row[key]:.3f}" for key in DIMENSIONS]
            rows.append([name, band, f"{row['sent_on']:.3f}", *cells])
    return _table(("second method", "band", "share sent on", *DIMENSIONS), rows)


if __name__ == "__main__":
    main()
