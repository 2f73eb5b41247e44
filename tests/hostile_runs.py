"""Whole builds and benches over one server, in this process: set up, run, read what was written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from endpoint import write_config
from hostile_endpoint import Hostile
from hostile_faults import PASSING
from misalign_bench.cli.main import main
from misalign_bench.llm.retry import Backoff

QUICK = Backoff(base=0.001, cap=0.005, retry_after_cap=0.01)
"""In the place of the client's own, so that retries come at once."""
SHARE = 0.2
SLOW = {"stall past the deadline", "slow drip", "headers without end"}
HEAVY = {"10 MB of JSON", "10 MB error page", "gzip bomb"}
CHEAP = sorted(PASSING.keys() - SLOW - HEAVY)
ITEMS = 40
SETTINGS = {"retries": 6, "deadline": 60.0, "concurrency": 4}

Row = dict[str, Any]


def configured(folder: Path, server: Hostile, **settings: Any) -> Path:
    """A configuration whose every model is the server, and items to bench beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = write_config(folder, server.url, 8)
    table = yaml.safe_load(path.read_text())
    for held in table["roles"].values():
        for model in held if isinstance(held, list) else [held]:
            model.update(SETTINGS | settings)
    target = {"model": "openai/judge-target", "base_url": server.url, **SETTINGS, **settings}
    table["bench"] = {"targets": [target], "epochs": 1, "resamples": 100}
    path.write_text(yaml.safe_dump(table))
    lines = []
    for number in range(ITEMS):
        misaligned = bool(number % 2)
        mark = "[[violates:value]]" if misaligned else "[[violates:]]"
        row = {"id": f"item-{number}", "prompt": f"What shall I say to guest {number:03d}?"}
        lines.append(json.dumps(row | {"response": f"Welcome! {mark}", "misaligned": misaligned}))
    (folder / "items.jsonl").write_text("\n".join(lines) + "\n")
    return path


def build(config: Path, *more: str) -> int:
    return main(["build", str(config), "--out", str(config.parent / "build"), "--quiet", *more])


def bench(config: Path, *more: str) -> int:
    items, out = config.parent / "items.jsonl", config.parent / "bench"
    command = ["bench", str(items), "--config", str(config), "--out", str(out), "--quiet"]
    return main([*command, *more])


def results(folder: Path) -> Mapping[str, Any]:
    """The results without what a retry changes: attempts, their errors, time."""
    table: dict[str, Any] = json.loads((folder / "bench" / "results.json").read_text())
    for total in table["totals"]:
        for name in ("attempts", "errors", "seconds"):
            total.pop(name, None)
    return table


def verdicts(folder: Path) -> dict[tuple[str, str], Row]:
    rows = pq.read_table(folder / "bench" / "verdicts.parquet").to_pylist()
    return {(row["item_id"], row["dimension"]): row for row in rows}


def dropped(folder: Path) -> dict[str, tuple[str, str]]:
    rows = pq.read_table(folder / "build" / "dropped.parquet").to_pylist()
    return {row["id"]: (row["stage"], row["reason"]) for row in rows}


def pairs(folder: Path) -> dict[tuple[str, str], Row]:
    found: list[Row] = []
    for file in sorted((folder / "build" / "data" / "pairs").glob("*.parquet")):
        found += pq.read_table(file).to_pylist()
    return {(row["prompt_id"], row["generator"]): row for row in found}
