"""Simulates how far the statistics can be trusted, and writes the tables of docs/statistics.md.

Run ``python benchmarks/statistics/simulate.py`` for everything, or name parts; the figures are kept
in ``figures.json`` beside this file, and ``--write`` alone writes the tables from them.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# One core, whatever the machine: set before numpy starts its threads.
for library in ("OPENBLAS", "OMP", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

HERE = Path(__file__).parent
FIGURES = HERE / "figures.json"
DOCUMENT = HERE.parent.parent / "docs" / "statistics.md"

Rows = Iterator[dict[str, Any]]


def parts(scale: float, seed: int) -> dict[str, Callable[[], Rows]]:
    """Each part by name; ``scale`` shrinks the number of simulations."""
    from interval_coverage import macro, micro
    from paired_tests import alike, power, same_score
    from stopping import stopping

    def runs(number: int) -> int:
        return max(100, round(number * scale / 100) * 100)

    return {
        "coverage": lambda: micro(runs(2000), 2000, seed),
        "alike": lambda: alike(runs(5000), 999, seed),
        "same_score": lambda: same_score(runs(5000), 999, seed),
        "power": lambda: power(runs(2000), 999, 2000, seed),
        "macro": lambda: macro(runs(500), 1000, seed),
        "stopping": lambda: stopping(runs(2000), 2000, seed),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="*", help="parts to simulate (default: all)")
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the simulations")
    parser.add_argument("--seed", type=int, default=20260211)
    parser.add_argument("--write", action="store_true", help="only write the tables again")
    options = parser.parse_args()
    figures = json.loads(FIGURES.read_text("utf-8")) if FIGURES.exists() else {}
    if not options.write:
        known = parts(options.scale, options.seed)
        for name in options.part or known:
            started = time.process_time()
            rows = []
            for row in known[name]():
                rows.append(row)
                print(name, json.dumps(row), flush=True)
            seconds = round(time.process_time() - started, 1)
            print(f"{name}: {seconds} CPU-seconds", flush=True)
            figures[name] = {"rows": rows, "cpu_seconds": seconds}
            if options.scale == 1.0:
                FIGURES.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    if options.scale == 1.0 and DOCUMENT.exists():
        from document import written

        DOCUMENT.write_text(written(DOCUMENT.read_text("utf-8"), figures), "utf-8")


if __name__ == "__main__":
    main()
