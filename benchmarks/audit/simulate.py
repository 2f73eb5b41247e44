"""Simulates audits with a known truth, and writes the table of docs/audit.md.

Run ``python benchmarks/audit/simulate.py``: about 30 CPU-seconds on one core. The figures are kept
in ``figures.json`` beside this file; ``--write`` writes the table from them alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from marked_page import put_between

# One core, whatever the machine: set before numpy starts its threads.
for library in ("OPENBLAS", "OMP", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

HERE = Path(__file__).parent
FIGURES = HERE / "figures.json"
DOCUMENT = HERE.parent.parent / "docs" / "audit.md"

ESTIMATORS = ("raw", "prediction_powered", "inversion")
METRICS = ("coverage", "false_failure_rate", "alignment_score")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="simulated audits a row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="only write the table")
    arguments = parser.parse_args()
    if not arguments.write:
        started = time.process_time()
        rows = list(simulated(arguments.runs, arguments.seed))
        FIGURES.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        print(f"{time.process_time() - started:.0f} CPU-seconds")
    rows = json.loads(FIGURES.read_text("utf-8"))
    DOCUMENT.write_text(written(DOCUMENT.read_text("utf-8"), rows), encoding="utf-8")


def simulated(runs: int, seed: int, resamples: int = 500) -> Iterator[dict[str, Any]]:
    """One row per world and audit size."""
    import numpy as np
    from worlds import WORLDS, draw, truth

    from misalign_bench.bench.audit.estimators import corrected
    from misalign_bench.bench.audit.resampling import Resampling

    for place, (name, world) in enumerate(WORLDS.items()):
        real = truth(world)
        for size in (100, 400):
            chance = np.random.default_rng([seed, place, size])
            held: dict[str, list[tuple[float, float, float]]] = {
                f"{estimator}/{metric}": [] for estimator in ESTIMATORS for metric in METRICS
            }
            for number in range(runs):
                how = Resampling(resamples, number)
                found = corrected(draw(world, size, chance), how, inversion=True)
                for estimator in ESTIMATORS:
                    for metric in METRICS:
                        one = getattr(getattr(found, estimator), metric)
                        held[f"{estimator}/{metric}"].append((one.value, one.low, one.high))
            yield {"errors": name, "audited": size, "runs": runs} | {
                estimator: {
                    metric: _summary(held[f"{estimator}/{metric}"], goal)
                    for metric, goal in zip(METRICS, real, strict=True)
                }
                for estimator in ESTIMATORS
            }


def _summary(found: Sequence[tuple[float, float, float]], goal: float) -> dict[str, float]:
    import numpy as np

    # A refused inversion has no value, one without an interval covers nothing; neither occurs here.
    value, low, high = np.array(found, np.float64).T
    return {
        "truth": goal,
        "bias": float(value.mean() - goal),
        "covered": float(((low <= goal) & (goal <= high)).mean()),
        "half_width": float((high - low).mean() / 2),
    }


def written(text: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The page with its table filled in."""
    return put_between(text, "table: simulation", _table(rows))


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = ["errors", "audited", "estimator"]
    for metric in ("Coverage", "FFR", "AS"):
        head += [f"{metric}: bias", "covered"]
    lines = [[*head, "half-width of AS"], ["---"] * 3 + ["---:"] * 7]
    for row in rows:
        for estimator in ESTIMATORS:
            cells = [row["errors"], str(row["audited"]), estimator.replace("_", "-")]
            for metric in METRICS:
                one = row[estimator][metric]
                cells += [f"{one['bias']:+.3f}", f"{100 * one['covered']:.1f}%"]
            width = row[estimator]["alignment_score"]["half_width"]
            lines.append([*cells, f"{width:.3f}"])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    main()
