"""Near-duplicate search: this package beside what its users could install, in one run.

``python benchmarks/simhash/run.py`` makes the peers' environment, runs every contender in a process
of its own, checks what each found, and writes ``results/table.md``, ``results/results.json`` and
the table in ``docs/deduplication.md``. Slow contenders are timed on a part (``--budget`` seconds).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import corpus
from checks import Checks
from document import write
from inputs import Inputs, prepare
from peers_environment import peer_names, peers_python, versions
from plan import WARM_OURS, WARM_PEER, Job, jobs
from table import markdown

HERE = Path(__file__).parent
WORK = HERE / ".work"
RESULTS = HERE / "results"
SIZES = {"20k": 20_000, "200k": 200_000, "1m": 1_000_000, "10m": 10_000_000}
LIMIT = 3600.0


def main() -> None:
    """Run what was asked for."""
    options = _options()
    sizes = [SIZES[name] for name in options.sizes.split(",")]
    python = peers_python()
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir()
    results: list[dict[str, Any]] = []
    budget = 2.0 if options.quick else options.budget
    for size in sizes:
        inputs = prepare(WORK / str(size), size)
        checks = Checks(inputs)
        for job in jobs(size):
            measured = _measure(job, inputs, python, budget)
            measured |= checks.of(job, measured)
            results.append({"size": inputs.size, **asdict(job), "title": job.title, **measured})
            print(_line(results[-1]), flush=True)
        shutil.rmtree(WORK / str(size))
    report = {"machine": _machine(), "versions": _versions(python), "results": results}
    _write(report, WORK if options.quick else RESULTS)
    if not options.quick:
        write("benchmark", markdown(report))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="20k,200k,1m,10m", help="some of %(default)s")
    parser.add_argument(
        "--budget", type=float, default=20.0, help="seconds for a contender's timed part"
    )
    parser.add_argument(
        "--quick", action="store_true", help="2 seconds a contender, results only in .work"
    )
    options = parser.parse_args()
    if unknown := set(options.sizes.split(",")) - set(SIZES):
        parser.error(f"unknown sizes: {', '.join(sorted(unknown))}")
    return options


def _measure(job: Job, inputs: Inputs, python: Path, budget: float) -> dict[str, Any]:
    """Run one contender in a process of its own and return what it measured, or why it failed."""
    path = WORK / "job.json"
    for old in WORK.glob("job.*"):
        old.unlink()
    on_texts = job.group != "joins"
    asked = {
        "module": job.module,
        "table": job.table,
        "name": job.name,
        "without": job.without,
        "pairs": job.group != "fingerprints",
        "tau": corpus.TAU,
        "texts": str(inputs.texts) if on_texts else "",
        "codes": str(inputs.uniform if job.uniform else inputs.codes),
        "warm_up": WARM_PEER if job.peer else WARM_OURS,
        "budget": LIMIT if job.whole else budget,
    }
    path.write_text(json.dumps(asked), encoding="utf-8")
    command = [python if job.peer else sys.executable, HERE / "measured.py", path]
    # A cache of its own, so that the first job of ours compiles and the others load.
    environment = os.environ | {"NUMBA_CACHE_DIR": str(WORK / "numba")}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {LIMIT:.0f} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["died"])[-1]}
    measured: dict[str, Any] = json.loads(
        path.with_suffix(".result.json").read_text(encoding="utf-8")
    )
    return measured | {"pairs_file": str(path.with_suffix(".pairs.npy"))}


def _machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    model = platform.processor()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text(encoding="utf-8").splitlines()
        model = next((li.partition(": ")[2] for li in lines if li.startswith("model name")), model)
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "published": bool(corpus.published()),
    }


def _versions(python: Path) -> dict[str, str]:
    ours = ("misalign-bench", "numpy")
    try:
        here = versions(Path(sys.executable), (*ours, "numba"))
    except subprocess.CalledProcessError:
        here = versions(Path(sys.executable), ours)
    return here | {name: v for name, v in versions(python, peer_names()).items() if name != "numpy"}


def _write(report: dict[str, Any], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    # Where a pair file lay on this machine is nobody's business.
    kept = [
        {name: value for name, value in row.items() if name != "pairs_file"}
        for row in report["results"]
    ]
    text = json.dumps(report | {"results": kept}, indent=1) + "\n"
    (folder / "results.json").write_text(text, encoding="utf-8")
    (folder / "table.md").write_text(markdown(report), encoding="utf-8")
    print(f"written: {folder / 'table.md'}")


def _line(result: dict[str, Any]) -> str:
    start = f"{result['size']:>10,} {result['group']:12s} {result['title']:26s}"
    if "failed" in result:
        return f"{start} failed: {result['failed']}"
    part = result["done"] / result["rows"]
    return (
        f"{start} {result['seconds']:12.4f} s (timed {part:7.2%}, {result['cores']:.1f} cores, "
        f"+{result['growth_mib']:.0f} MiB, first call {result['first_call']:.2f} s) "
        f"{result.get('check', '')}"
    )


if __name__ == "__main__":
    main()
