"""``make torture`` puts what its attacks print between their marks in ``docs/reliability.md``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from script import load_script

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reliability.md").read_text("utf-8")


@pytest.fixture(scope="module")
def torture() -> Any:
    return load_script(ROOT / "benchmarks" / "torture" / "run.py")


def test_every_mark_on_the_page_belongs_to_an_attack_and_is_closed(torture: Any) -> None:
    marks = re.findall(r"<!-- (.+) -->", PAGE)
    opened = [mark.removeprefix("torture: ") for mark in marks[::2]]
    assert marks == [part for name in opened for part in (f"torture: {name}", "end")]
    assert len(opened) == len(set(opened)) >= 5
    assert set(opened) <= {attack.name for attack in torture.ATTACKS} | {"all"}


def test_what_an_attack_prints_stands_between_its_marks_and_its_last_line_in_the_table(
    torture: Any,
) -> None:
    kill, load = (
        next(one for one in torture.ATTACKS if one.name == name) for name in ("kill", "load")
    )
    found = {
        kill: torture.Came("| a |\n\n3 kills, \\1 lost", 0, 90.0),
        load: torture.Came("too much memory\n", 1, 30.0),
    }
    page = torture.written(PAGE, found)
    assert "<!-- torture: kill -->\n| a |\n\n3 kills, \\1 lost\n<!-- end -->" in page
    assert "| `kill -9` | 1.5 | 3 kills, \\1 lost |\n" in page
    assert "| load | 0.5 | **failed**: too much memory |\n\n2 minutes in all" in page
    assert torture.written(page, found) == page


def test_an_attack_that_ends_with_an_error_is_told_apart(torture: Any) -> None:
    attack = torture.Attack("x", "x", (sys.executable, "-c", "print('half'); raise SystemExit(3)"))
    came = torture.carried_out(attack)
    assert (came.text, came.code, came.sentence) == ("half", 3, "half")
