"""How the tree is built: imports run downward only, files stay small, templates say what they are.

The floors are those of CONTRIBUTING.md. Imports under ``TYPE_CHECKING`` and inside functions count
like any other, and so does a module that is named in a string.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from misalign_bench.prompts.loader import parse

SOURCE = Path(__file__).parents[1] / "src"
PACKAGE = "misalign_bench"
# From the roof to the ground. Parts on one floor do not import each other.
FLOORS = (
    ("cli",),
    ("report",),
    ("suites",),
    ("bench",),
    ("build",),
    ("judge",),
    ("simhash", "llm"),
    ("journal",),
    ("prompts",),
    ("taxonomy",),
    ("config_file",),
    ("config",),
    ("config_model",),
    ("records",),
    ("json_text",),
    ("errors",),
)
# Data only: nothing imports it and it imports nothing.
DATA = ("configs",)
MOST_LINES = 400

HEIGHT = {part: -number for number, parts in enumerate(FLOORS) for part in parts}
MODULES = sorted(SOURCE.rglob("*.py"))
NAMES = [str(path.relative_to(SOURCE)) for path in MODULES]
TEMPLATES = sorted((SOURCE / PACKAGE / "prompts").glob("*.j2"))
MODULE_IN_TEXT = re.compile(rf"{PACKAGE}(\.\w+)+")


def part_of(module: str) -> str:
    """The part of the house that a dotted module name belongs to; empty for the package itself."""
    return module.split(".")[1] if "." in module else ""


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every module of the project that a file mentions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            module = str(node.module)
            # ``from misalign_bench import config`` names a part only in what it takes from it.
            names = (
                [f"{PACKAGE}.{alias.name}" for alias in node.names if alias.name in HEIGHT]
                if module == PACKAGE
                else [module]
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [node.value] if MODULE_IN_TEXT.fullmatch(node.value) else []
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.split(".")[0] == PACKAGE)


def home_of(path: Path) -> str:
    place = path.relative_to(SOURCE / PACKAGE)
    return (
        place.parts[0].removesuffix(".py") if place.name != "__init__.py" or place.parts[1:] else ""
    )


def test_every_part_of_the_package_has_its_floor() -> None:
    parts = {home_of(path) for path in MODULES} - {""}
    assert parts <= {*HEIGHT, *DATA}


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_imports_run_downward_only(path: Path) -> None:
    home = home_of(path)
    upward = [
        f"{path.name}:{line} imports {module}"
        for line, module in imported(path)
        if (part := part_of(module)) not in ("", home) and HEIGHT[part] >= HEIGHT.get(home, -99)
    ]
    assert not upward


def test_simhash_imports_nothing_of_the_project() -> None:
    foreign = [
        f"{path.name}:{line} imports {module}"
        for path in MODULES
        if home_of(path) == "simhash"
        for line, module in imported(path)
        if part_of(module) != "simhash"
    ]
    assert not foreign


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_every_module_says_what_it_holds_and_stays_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), "no docstring"
    assert len(text.splitlines()) <= MOST_LINES, "is it one idea?"


def test_a_package_file_holds_only_its_docstring() -> None:
    for path in MODULES:
        if path.name == "__init__.py" and path.parent.name != PACKAGE:
            body = ast.parse(path.read_text(encoding="utf-8")).body
            assert len(body) == 1, path
            assert isinstance(body[0], ast.Expr), path


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_every_template_has_front_matter_and_sections(path: Path) -> None:
    read = parse(path.read_text(encoding="utf-8"), path.stem)
    assert read.version >= 1
    assert read.implements.strip()
    # Guardrails and reward models are asked about the last message of a conversation.
    conversation = read.name in ("guard_conversation", "judge_reward")
    assert read.sections[-1][0] == ("assistant" if conversation else "user")


def test_there_are_templates() -> None:
    assert TEMPLATES


def test_a_floor_that_imports_upward_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "wrong.py"
    file.write_text(
        "from misalign_bench import config\n"
        "def late():\n    import misalign_bench.cli.main\n"
        "from misalign_bench.bench.metrics import score\n"
        "NAME = 'misalign_bench.report'\n"
    )
    found = sorted(part_of(module) for _, module in imported(file))
    assert found == ["bench", "cli", "config", "report"]
