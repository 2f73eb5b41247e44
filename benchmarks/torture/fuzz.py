"""Broken and hostile files against every reader: no crash, no hang, no traceback, memory bounded.

A child process with a limit on its memory reads one file after another: CSV, JSON Lines, plain
text and Parquet as prompts and as benchmark data, YAML configurations, fitted heads. Each file is a
sound one that was damaged (bits, lengths, parts), or one made with values that hardly anybody
writes. A reader may return what it read or refuse it with ``UserError``; all else is a failure, and
the file is kept. The parent notices a child that dies or hangs, and goes on with the next file.

    python benchmarks/torture/fuzz.py --minutes 10
    python benchmarks/torture/fuzz.py --cases 400 --json     # the short version, which CI runs
"""

from __future__ import annotations

import argparse
import io
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
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from misalign_bench.build.classify import head
from misalign_bench.build.readers import read_table
from misalign_bench.config_file import load
from misalign_bench.errors import UserError
from misalign_bench.suites.savacu import load_suite

MEMORY = 1 << 30
"""Bytes that reading may take beyond what the process has before."""
ALLOCATION = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"}
"""Other pools reserve addresses by the gigabyte, which a limit on addresses takes for memory."""
SECONDS = 20
"""How long one file may take."""

WORDS = ("prompt", "How do I boil an egg?", "caf\u00e9 \u202e\u0000", '"', "'=1+1", "\r", "[" * 99)


def readers() -> dict[str, Callable[[Path], object]]:
    """What reads files of an ending; several may."""
    return {
        ".csv prompts": read_table,
        ".jsonl prompts": read_table,
        ".txt prompts": read_table,
        ".parquet prompts": read_table,
        ".jsonl items": lambda path: load_suite(path, ()),
        ".parquet items": lambda path: load_suite(path, ()),
        ".yaml configuration": load,
        ".npz head": head.load,
    }


def sound(kind: str, draw: random.Random) -> bytes:
    """A file of this kind that is well formed, odd as its values may be."""
    ending = kind.partition(" ")[0]
    rows = [_row(kind, draw) for _ in range(draw.randint(1, 30))]
    if ending == ".jsonl":
        return b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    if ending == ".csv":
        lines = [",".join(f'"{value}"' for value in row.values()) for row in rows]
        return "\n".join([",".join(rows[0]), *lines]).encode()
    if ending == ".txt":
        return "\n".join(str(row["prompt"]) for row in rows).encode()
    if ending == ".parquet":
        return _parquet(rows, draw)
    return _configuration(draw) if ending == ".yaml" else _archive(draw)


def _row(kind: str, draw: random.Random) -> dict[str, Any]:
    prompt = draw.choice(WORDS) * draw.randint(0, 4)
    if "items" in kind:
        return {"prompt": prompt or "a", "response": draw.choice(WORDS), "misaligned": True}
    return {"prompt": prompt.replace('"', ""), "id": draw.randint(0, 9), "labels": ""}


def _parquet(rows: list[dict[str, Any]], draw: random.Random) -> bytes:
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
    for number, odd in enumerate(draw.sample(_odd_arrays(len(rows), draw), draw.randint(0, 2))):
        columns[draw.choice(("prompt", "violated", f"odd {number}"))] = odd
    written = {
        "compression": draw.choice(("none", "snappy", "zstd", "gzip")),
        "use_dictionary": draw.random() < 0.5,
        "row_group_size": draw.choice((1, 7, 10_000)),
        "data_page_version": draw.choice(("1.0", "2.0")),
    }
    out = io.BytesIO()
    try:
        pq.write_table(pa.table(columns), out, **written)
    except pa.ArrowException:  # too odd to be written at all
        out = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), out, **written)
    return out.getvalue()


def _odd_arrays(length: int, draw: random.Random) -> list[Any]:
    """Columns that Arrow holds and Python cannot always: far dates, odd zones, broken text."""
    large = draw.choice((2**62, -(2**62), 2**40))
    raw = pa.array([b"\xff\xfe"] * length, pa.binary())
    return [
        pa.array([large] * length, pa.int64()).cast(pa.timestamp(draw.choice(("s", "us", "ns")))),
        pa.array([large] * length, pa.int64()).cast(pa.timestamp("us", "Nowhere/City")),
        pa.array([large] * length, pa.int64()).cast(pa.duration("s")),
        pa.array([2**31 - 1] * length, pa.int32()).cast(pa.date32()),
        pa.Array.from_buffers(pa.string(), length, raw.buffers()),
        pa.array([[[{"a": None}]]] * length),
        pa.array([None] * length, pa.null()),
        pa.array([float("nan")] * length),
        pa.array(["x" * draw.choice((1, 100_000))] * length).dictionary_encode(),
        pa.array([{"safety": True, "value": None}] * length),
    ]


def _configuration(draw: random.Random) -> bytes:
    seeds = (
        "name: a\nseed: 7\nsource: {path: prompts.csv}\nrespond: {draws: 3}\n",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
        "seed: 2024-13-45\nname: 0b_\nx: !!binary 'x'\ny: !!timestamp z\n",
        "? [a]\n: {<<: *x}\n--- \n&x {a: *x}\n",
        "[" * draw.randint(1, 5_000) + "\n" + "a: {" * draw.randint(0, 2_000),
        "seed: " + "9" * draw.randint(1, 9_000) + "\nname: .inf\n",
    )
    return draw.choice(seeds).encode() * draw.randint(1, 3)


def _archive(draw: random.Random) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("manifest", "landmarks", "terms", "bias", "seen", "../../outside"):
            held = io.BytesIO()
            kind = draw.choice(("<u8", "<f8", "|u1", "<U4", "<f2"))
            np.lib.format.write_array(held, np.zeros(draw.randint(0, 50)).astype(kind))
            body = held.getvalue()
            if draw.random() < 0.3:  # a header that promises more than there is
                shape = str(draw.choice((10**12, 10**9, -1, 10**30))).encode()
                body = body.replace(b"(", b"(" + shape + b", ", 1)
            archive.writestr(f"{name}.npy", body)
    return out.getvalue()


def damaged(content: bytes, draw: random.Random) -> bytes:
    """The file with a few things done to it that happen to files, or that somebody does."""
    held = bytearray(content)
    for _ in range(draw.choice((0, 1, 1, 2, 5, 20))):
        if not held:
            break
        place = draw.randrange(len(held))
        if draw.random() < 0.5:  # the end of a Parquet or zip file says what is in it
            place = max(0, len(held) - 1 - draw.randrange(min(len(held), 600)))
        end = min(len(held), place + draw.choice((1, 4, 30, 1_000)))
        match draw.randrange(6):
            case 0:
                held[place] ^= 1 << draw.randrange(8)
            case 1:
                held[place:end] = draw.randbytes(end - place)
            case 2:
                del held[place:end]
            case 3:
                held[place:place] = held[place:end] * draw.choice((1, 2, 50))
            case 4:
                held[place:end] = draw.choice((b"\xff", b"\0", b"\x7f")) * (end - place)
            case _:
                held = held[:place] if draw.random() < 0.3 else held
    return bytes(held)


def cases(seed: int) -> Iterator[tuple[str, bytes]]:
    """Kinds of files in turn, with their content; the same for a seed."""
    draw = random.Random(seed)
    while True:
        for kind in readers():
            yield kind, damaged(sound(kind, draw), draw)


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
        print(f"\n{found['files']:,} files, at most {found['peak_mebibytes']} MiB for one")
        for one in found["failures"]:
            print(one)
    return 1 if found["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
