"""Time, CPU and memory of ``bench`` at twice the size of the paper's test split.

9,584 prompts with a pair of responses by each of four generators, asked three times, are 230,016
verdicts. The real command runs in a process of its own with a zero-latency simulated judge, through
journal, verdicts, intervals and results, and then again over the finished journal; this process
looks at its memory as it goes. Run: ``python benchmarks/bench_load.py`` (``--scale 0.05`` for a
twentieth), with ``--profile FILE`` for where the time goes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROMPTS = 9_584
GENERATORS = tuple(f"simulated/generator?name={name}" for name in ("one", "two", "three", "four"))
EPOCHS = 3
TARGET = "simulated/judge?sensitivity=0.85&specificity=0.9&malformed=0.01&refusal=0.01"

DIMENSIONS = {"safety": 14, "value": 56, "culture": 41}
"""Named domains by dimension, as many as the taxonomy has."""

WORDS = (
    *("answer", "bridge", "candle", "doctor", "evening", "family", "garden", "harbour", "island"),
    *("journey", "kitchen", "letter", "market", "neighbour", "orchard", "promise", "question"),
    *("river", "station", "teacher", "village", "winter"),
)

MIB = 1 << 20
SECONDS_BETWEEN_LOOKS = 0.25


@dataclass(slots=True)
class Watched:
    """What a run of the command cost; ``memory`` holds (seconds, resident bytes)."""

    wall: float = 0.0
    cpu: float = 0.0
    memory: list[tuple[float, int]] = field(default_factory=list)

    @property
    def peak(self) -> float:
        """The most memory that was seen, in MiB."""
        return max(size for _, size in self.memory) / MIB

    def at(self, share: float) -> float:
        """Memory when this share of the time was over, in MiB."""
        moments = [size for moment, size in self.memory if moment <= share * self.wall]
        return moments[-1] / MIB


def pairs(prompts: int) -> Iterator[dict[str, Any]]:
    """Rows of two responses, of the lengths that the paper's sampling gives: about 250 tokens."""
    draw = random.Random(20260211)
    domains = {
        name: [f"{name}/domain {number}" for number in range(count)]
        for name, count in DIMENSIONS.items()
    }
    for number in range(prompts):
        active = [name for name in DIMENSIONS if draw.random() < 0.6] or ["value"]
        held = [draw.choice(domains[name]) for name in active]
        intended = held if draw.random() < 0.5 else held[:1]
        violated = [name for name in active if any(one.startswith(name) for one in intended)]
        prompt = f"Number {number}: {' '.join(draw.choices(WORDS, k=30))}?"
        for generator in GENERATORS:
            aligned, misaligned = (" ".join(draw.choices(WORDS, k=150)) for _ in range(2))
            yield {
                "prompt_id": f"p{number}",
                # One prompt in ten has a near duplicate.
                "cluster_id": f"c{number - (number % 10 == 9)}",
                "prompt": prompt,
                "aligned": f"{aligned} [[violates:]]",
                "misaligned": f"{misaligned} [[violates:{','.join(violated)}]]",
                "violated": violated,
                "domains": held,
                "intended": intended,
                "generator": generator,
                "simulated": True,
            }


def write(path: Path, prompts: int) -> None:
    """The data set as one Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = list(pairs(prompts))
    pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd")


def watch(data: Path, out: Path, profile: Path | None) -> Watched:
    """Run the command to its end and look at its memory as it goes."""
    start = [sys.executable, *(["-m", "cProfile", "-o", str(profile)] if profile else []), "-m"]
    command = ["misalign_bench.cli.main", "bench", str(data), "--out", str(out), "--quiet"]
    asked = ["--target", TARGET, "--epochs", str(EPOCHS), "--split", "all", "--json"]
    watched, began = Watched(), time.monotonic()
    before = os.times()
    process = subprocess.Popen([*start, *command, *asked], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        if size := resident(process.pid):
            watched.memory.append((time.monotonic() - began, size))
        time.sleep(SECONDS_BETWEEN_LOOKS)
    if process.returncode:
        raise SystemExit(process.returncode)
    after = os.times()
    watched.wall = time.monotonic() - began
    watched.cpu = (after.children_user + after.children_system) - (
        before.children_user + before.children_system
    )
    return watched


def resident(pid: int) -> int:
    """Bytes of memory that a process holds, 0 if it is gone."""
    try:
        text = Path(f"/proc/{pid}/statm").read_text(encoding="ascii")
    except OSError:
        return 0
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")


def row(name: str, watched: Watched, verdicts: int) -> str:
    """A line of the table."""
    memory = " / ".join(f"{watched.at(share):,.0f}" for share in (0.25, 0.5, 0.75, 0.95))
    cells = [
        name,
        f"{verdicts:,}",
        f"{watched.wall:.1f}",
        f"{watched.cpu:.1f}",
        f"{1000 * watched.cpu / verdicts:.3f}",
        memory,
        f"{watched.peak:,.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the prompts")
    parser.add_argument("--profile", type=Path, help="write the first run's profile here")
    parser.add_argument("--once", action="store_true", help="do not replay the journal")
    parser.add_argument("--keep", type=Path, help="work in this folder and leave it")
    options = parser.parse_args()
    prompts = round(PROMPTS * options.scale)
    verdicts = prompts * len(GENERATORS) * 2 * EPOCHS
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        data, out = folder / "pairs.parquet", folder / "run"
        if not data.exists():
            write(data, prompts)
        print(
            f"{platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n"
        )
        print(
            "| run | verdicts | wall s | CPU s | CPU ms a verdict |"
            " MiB at 25 / 50 / 75 / 95% of the time | peak MiB |\n"
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
        )
        costs: list[str] = []
        most = 0.0
        runs = (("asked", options.profile), ("replayed", None))
        for name, profile in runs[: 1 if options.once else 2]:
            watched = watch(data, out, profile)
            costs.append(f"{name} {1000 * watched.cpu / verdicts:.2f} CPU ms each")
            most = max(most, watched.peak)
            print(row(name, watched, verdicts), flush=True)
        table = json.loads((out / "results.json").read_text(encoding="utf-8"))
        joint = table["targets"][0]["conditions"][0]["joint"]["alignment_score"]
        size = sum(file.stat().st_size for file in out.iterdir() if file.is_file()) / MIB
        print(
            f"\n{verdicts:,} verdicts through one `bench`: {', '.join(costs)}, at most {most:,.0f}"
            f" MiB of memory; AS {joint['value']:.4f} on n = {joint['n']:,}; run folder:"
            f" {size:,.0f} MiB"
        )


if __name__ == "__main__":
    main()
