"""All attacks of ``docs/reliability.md``, one after another, and their figures into that page.

    make torture                                       # 40 minutes of an idle machine
    python benchmarks/torture/run.py --only kill,fuzz  # some of them

Each attack is a program whose last line says in one sentence what came of it; everything it prints
takes the place of what stands between its marks on the page, and the sentences make the table at
the top. Ends with 1 if any attack found something.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from marked_page import put_between

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAGE = ROOT / "docs" / "reliability.md"
KEPT = ROOT / "runs" / "torture"
"""What each attack printed, so that ``--only`` can make the whole table again."""
TESTS = (sys.executable, "-m", "pytest", "--no-header")


@dataclass(frozen=True)
class Attack:
    """A program that attacks, and what the table calls it."""

    name: str
    title: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Came:
    """What an attack printed, how it ended and how long it took."""

    text: str
    code: int
    seconds: float

    @property
    def sentence(self) -> str:
        """Its last line that is not empty."""
        said = [line for line in self.text.splitlines() if line.strip()]
        return said[-1] if said else "said nothing"


def script(path: str, *typed: str) -> tuple[str, ...]:
    """The command line of a program of this folder or the one above."""
    return (sys.executable, str(HERE / path), *typed)


def tests(pattern: str) -> list[str]:
    """The test files of a pattern."""
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests").glob(pattern))


ATTACKS = (
    Attack("hostile", "hostile endpoint", script("hostile.py", "--minutes", "4")),
    Attack("limiter", "moving limit, outage", script("concurrency.py", "--seconds", "20")),
    Attack("kill", "`kill -9`", script("kill.py", "--kills", "200")),
    Attack("fuzz", "broken and hostile files", script("fuzz.py", "--minutes", "10")),
    Attack("injection", "prompt injection", script("injection.py", "--judge", "leaning")),
    Attack("load", "load", script("../bench_load.py")),
    Attack("input", "bad input", (*TESTS, *tests("test_bad_input*.py"))),
    Attack("short", "the short form of all (CI)", ("make", "--silent", "attack")),
)


def main() -> int:
    """Attack, write the page; 1 if anything was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", help="names, with commas between them")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write into")
    asked = parser.parse_args()
    names = asked.only.split(",") if asked.only else [attack.name for attack in ATTACKS]
    unknown = set(names) - {attack.name for attack in ATTACKS}
    if unknown:
        parser.error(f"no attack {', '.join(sorted(unknown))}")
    for attack in ATTACKS:
        if attack.name in names:
            came = carried_out(attack)
            keep(attack, came)
            print(f"{attack.name}, {came.seconds:.0f} s: {came.sentence}", flush=True)
            if came.code:
                print(came.text, flush=True)
    held = {attack: came for attack in ATTACKS if (came := kept(attack))}
    asked.page.write_text(written(asked.page.read_text("utf-8"), held), "utf-8")
    return int(any(came.code for came in held.values()))


def carried_out(attack: Attack) -> Came:
    """Run it to its end; what it says on the error stream goes to the screen."""
    began = time.monotonic()
    ran = subprocess.run(
        attack.command, check=False, stdout=subprocess.PIPE, text=True, cwd=ROOT, encoding="utf-8"
    )
    return Came(ran.stdout.strip(), ran.returncode, time.monotonic() - began)


def keep(attack: Attack, came: Came) -> None:
    """Write down what it came to."""
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / f"{attack.name}.json").write_text(json.dumps(asdict(came)), "utf-8")


def kept(attack: Attack) -> Came | None:
    """What it came to the last time, if it was carried out here."""
    path = KEPT / f"{attack.name}.json"
    return Came(**json.loads(path.read_text("utf-8"))) if path.is_file() else None


def written(page: str, held: dict[Attack, Came]) -> str:
    """The page with these figures; an attack without marks on it is in the table only."""
    for attack, came in held.items():
        mark = f"torture: {attack.name}"
        if f"<!-- {mark} -->" in page:
            page = put_between(page, mark, came.text)
    return put_between(page, "torture: all", summary(held))


def summary(held: dict[Attack, Came]) -> str:
    """The table at the top of the page."""
    lines = ["| attack | minutes | what came of it |", "|---|---:|---|"]
    for attack, came in held.items():
        failed = "**failed**: " if came.code else ""
        lines.append(f"| {attack.title} | {came.seconds / 60:.1f} | {failed}{came.sentence} |")
    minutes = sum(came.seconds for came in held.values()) / 60
    machine = f"Python {platform.python_version()}, {os.cpu_count()} processors"
    return "\n".join([*lines, "", f"{minutes:.0f} minutes in all, {machine}."])


if __name__ == "__main__":
    sys.exit(main())
