"""Broken and hostile files against every reader: no crash, no hang, no traceback, memory bounded.

A child process with a limit on its memory reads one file after another: CSV, JSON Lines, plain
text and Parquet as prompts and as benchmark data, YAML configurations, fitted heads. Each file is a
sound one that was damaged (bits, lengths, parts), or one made with values that hardly anybody
writes. A reader may return what it read or refuse it with ``UserError``; all else is a failure. The
parent notices a child that dies or hangs, keeps the file, and goes on with the next one.

    python benchmarks/torture/fuzz.py --minutes 10
    python benchmarks/torture/fuzz.py --cases 1500 --json    # the short version; CI runs two seeds
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from fuzz_files import damaged, sound

from misalign_bench.build.classify import head
from misalign_bench.build.ingest import ingest
from misalign_bench.config import SourceSettings
from misalign_bench.config_file import load
from misalign_bench.errors import UserError
from misalign_bench.suites.savacu import load_suite

MEMORY = 1 << 30
"""Bytes that reading may take beyond what the process has before."""
ALLOCATION = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"}
"""Other pools reserve addresses by the gigabyte, which a limit on addresses takes for memory."""
SECONDS = 20
"""How long one file may take."""


def readers() -> dict[str, Callable[[Path], object]]:
    """What reads files of an ending; several may."""
    return {
        ".csv prompts": prompts,
        ".jsonl prompts": prompts,
        ".txt prompts": prompts,
        ".parquet prompts": prompts,
        ".jsonl items": lambda path: load_suite(path, ()),
        ".parquet items": lambda path: load_suite(path, ()),
        ".yaml configuration": load,
        ".npz head": labelled,
    }


def prompts(path: Path) -> object:
    """Read prompts as a build does, with the labels that came along."""
    return ingest(SourceSettings(path=str(path), language=None))


def labelled(path: Path) -> None:
    """Read a head and label a prompt: whatever it holds, probabilities come out."""
    held = head.load(path)
    vector = np.full(held.features.landmarks.shape[1], 0.5)
    for identity in ("p0000000000000007", "p00000000000000ff"):
        found = held.probabilities("How do I boil an egg?", vector, identity)
        if not all(0 <= one <= 1 for one in found):
            raise ArithmeticError(f"a probability of {max(found)}")


def cases(seed: int) -> Iterator[tuple[str, bytes]]:
    """Kinds of files in turn, with their content; the same for a seed."""
    draw = random.Random(seed)
    while True:
        for kind in readers():
            content = sound(kind, draw)
            # Formats with a grammar or checksums seldom let damaged bytes past their first check.
            strict = kind in (".yaml configuration", ".npz head")
            yield kind, content if strict and draw.random() < 0.7 else damaged(content, draw)


def child(folder: Path, seed: int, skip: int, count: int, until: float) -> None:
    """Read files until one kills this process, printing a line of JSON for each outcome."""
    read = readers()
    # Threads and their memory exist before the limit does, so that it bounds what files cause.
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    for kind, reader in read.items():
        path = folder / f"case{kind.partition(' ')[0]}"
        path.write_bytes(sound(kind, random.Random(0)))
        with suppress(UserError):
            reader(path)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number, (kind, content) in enumerate(cases(seed)):
        if number < skip:
            continue
        if number >= count or time.time() > until:
            break
        path = folder / f"case{kind.partition(' ')[0]}"
        path.write_bytes(content)
        # Not caught on purpose: code that hangs below Python would never see an exception.
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        outcome, detail = "read", ""
        try:
            read[kind](path)
        except UserError:
            outcome = "refused"
        except Exception as error:  # what must not happen, whatever it is
            outcome, detail = "failed", f"{type(error).__name__}: {error}"[:200]
        signal.setitimer(signal.ITIMER_REAL, 0)
        more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(json.dumps([number, kind, outcome, detail, more]), flush=True)


def run(seed: int, count: int, minutes: float, keep: Path) -> dict[str, Any]:
    """All cases, in as many children as it takes."""
    until, done, peak = time.time() + 60 * minutes, 0, 0
    outcomes: Counter[tuple[str, str]] = Counter()
    failures: list[dict[str, Any]] = []
    while done < count and time.time() < until:
        with tempfile.TemporaryDirectory() as place:
            typed = [str(one) for one in ("--child", place, seed, done, count, until)]
            ran = subprocess.run(
                [sys.executable, __file__, *typed],
                check=False,
                capture_output=True,
                text=True,
                timeout=60 * minutes + 120,
                env={**os.environ, **ALLOCATION},
            )
            last = done - 1
            for line in ran.stdout.splitlines():
                last, kind, outcome, detail, more = json.loads(line)
                outcomes[kind, outcome] += 1
                peak = max(peak, more)
                if outcome == "failed":
                    failures.append({"case": last, "kind": kind, "what": detail})
            if ran.returncode:
                what = f"the reader's process ended with {ran.returncode}"
                failures.append({"case": last + 1, "what": what, "said": ran.stderr[-300:]})
                keep.mkdir(parents=True, exist_ok=True)
                for file in Path(place).iterdir():
                    (keep / f"{seed}-{last + 1}{file.suffix}").write_bytes(file.read_bytes())
                last += 1
            done = last + 1
            if not ran.returncode:
                break
    return {
        "seed": seed,
        "files": sum(outcomes.values()),
        "failures": failures,
        "peak_mebibytes": round(peak / 1024, 1),
        "kinds": {
            kind: {one: outcomes[kind, one] for one in ("read", "refused", "failed")}
            for kind in readers()
        },
    }


def main() -> int:
    """Run the cases and print a table; 1 if anything failed."""
    if "--child" in sys.argv:
        place, seed, skip, count, until = sys.argv[2:]
        code = 1
        try:
            child(Path(place), int(seed), int(skip), int(count), float(until))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            # No ordinary exit: Arrow's threads may wait for memory that the limit keeps from them.
            sys.stderr.flush()
            os._exit(code)
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--cases", type=int, default=10**9)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path("runs/fuzz"), help="for what failed")
    parser.add_argument("--json", action="store_true")
    typed = parser.parse_args()
    found = run(typed.seed, typed.cases, typed.minutes, typed.keep)
    if typed.json:
        print(json.dumps(found, indent=2))
    else:
        print("| file | read | refused | failed |\n|---|---:|---:|---:|")
        for kind, held in found["kinds"].items():
            print(f"| {kind} | {held['read']:,} | {held['refused']:,} | {held['failed']:,} |")
        print()
        for one in found["failures"]:
            print(f"- {one}")
        print(
            f"{found['files']:,} files, {len(found['failures'])} failures, at most"
            f" {found['peak_mebibytes']} MiB for one"
        )
    return 1 if found["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
