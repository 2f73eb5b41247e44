"""One contender in a process of its own: ``python measured.py JOB.json`` writes its result there.

A process of its own gives each its own peak memory, and the peers their own environment. Steps:
load the input, run the contender once on a small one (which imports and compiles; that time is
its own column), then for real, until it is done or its time is up.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from contender import Contender, Task

REPEAT_BELOW = 3.0
"""A shorter run is repeated until so many seconds are used, at most 9 times."""


def main() -> None:
    """Read the job, do it, and write what was measured beside it."""
    path = Path(sys.argv[1])
    job = json.loads(path.read_text(encoding="utf-8"))
    for name in job["without"]:
        sys.modules[name] = None  # type: ignore[assignment]  # an import of it then fails
    work: Contender = getattr(importlib.import_module(job["module"]), job["table"])[job["name"]]
    task = _task(job)
    started = time.perf_counter()
    _finish(work, _small(task, job["warm_up"]))
    measured: dict[str, Any] = {"first_call": time.perf_counter() - started}
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    before = _forget_peak()
    measured |= _run(work, task, job["budget"])
    measured["growth_mib"] = (_peak() - before) / 2**20
    measured["loaded_mib"] = before / 2**20
    if job["pairs"]:
        found = task.found or [np.zeros((2, 0), dtype=np.int64)]
        np.save(path.with_suffix(".pairs.npy"), np.concatenate(found, axis=1))
    measured["repeated"] = _repeat(work, task, job["budget"], measured)
    path.with_suffix(".result.json").write_text(json.dumps(measured), encoding="utf-8")


def _task(job: dict[str, Any]) -> Task:
    if job["texts"]:
        with open(job["texts"], encoding="utf-8") as file:
            return Task(job["tau"], texts=json.load(file))
    return Task(job["tau"], codes=np.load(job["codes"]))


def _small(task: Task, size: int) -> Task:
    """Return a small task of the same kind."""
    if len(task.texts):
        return Task(task.tau, texts=task.texts[:size])
    return Task(task.tau, codes=task.codes[:size])


def _finish(work: Contender, task: Task) -> None:
    for _ in work(task):
        pass


def _run(work: Contender, task: Task, budget: float) -> dict[str, Any]:
    """Drive a contender until it is done or the budget is spent."""
    started, cpu = time.perf_counter(), time.process_time()
    steps = work(task)
    next(steps)
    set_up = time.perf_counter() - started
    done = 0
    elapsed = set_up
    for done in steps:
        elapsed = time.perf_counter() - started
        if elapsed - set_up > budget and done < len(task.rows):
            break
    spent = time.process_time() - cpu
    whole = set_up + (elapsed - set_up) * task.weight * len(task.rows) / max(done, 1)
    return {
        "set_up": set_up,
        "timed": elapsed,
        "seconds": whole,
        "cores": spent / elapsed if elapsed else 0.0,
        "rows": len(task.rows),
        "done": done,
        "weight": task.weight,
    }


def _repeat(work: Contender, task: Task, budget: float, measured: dict[str, Any]) -> list[float]:
    """Time a short run again, and return the seconds of every run, the first included."""
    times = [measured["seconds"]]
    while measured["done"] == measured["rows"] and sum(times) < REPEAT_BELOW and len(times) < 9:
        task.found.clear()
        times.append(_run(work, task, budget)["seconds"])
    measured["seconds"] = min(times)
    return times


def _forget_peak() -> int:
    """Reset the peak of the resident memory where the system can, and return what is resident."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _peak()


def _peak() -> int:
    """Return the peak of the resident memory in bytes."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
