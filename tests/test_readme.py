"""The documentation says what is true: commands run, links lead somewhere, written pages are fresh.

The README's own example files are written to an empty folder, and its commands run there in order,
against a server on loopback that answers as the simulated models do.
"""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from loopback import Body, Loopback
from misalign_bench.cli.main import COMMANDS, parser
from misalign_bench.llm.behaviours import BEHAVIOURS, Draw, Parameters
from misalign_bench.llm.model import Request, Sample, Sampling
from misalign_bench.records import Message
from script import load_script

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
PROGRAM = "misalign-bench"
SERVER = "http://127.0.0.1:8000/v1"

_BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")
_BEHAVIOUR_OF = {"labels": "classifier", "writer": "generator"}


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """Language, file name and text of each fenced block."""
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


def commands(page: Path) -> list[str]:
    """The lines of a page's shell blocks, without comments."""
    lines = [line for kind, _, text in blocks(page) if kind == "bash" for line in text.splitlines()]
    return [line.partition(" #")[0].strip() for line in lines if line.strip()]


def calls_of_the_program() -> list[tuple[str, str]]:
    return [
        (page.name, line) for page in PAGES for line in commands(page) if line.split()[0] == PROGRAM
    ]


def answer(body: Body) -> str:
    """What the simulated model that the request's model name stands for says."""
    shape = body.get("response_format", {}).get("json_schema", {}).get("schema")
    request = Request(
        tuple(Message(message["role"], message["content"]) for message in body["messages"]),
        Sampling(),
        Sample("target"),
        schema=shape,
    )
    behave = BEHAVIOURS[_BEHAVIOUR_OF.get(body["model"], "judge")]
    draw = Draw.of(body["model"], int(body["seed"]), request)
    text, _ = behave(request, draw, Parameters(obey=1.0))
    return text


@pytest.mark.parametrize(("page", "line"), calls_of_the_program())
def test_a_command_of_the_documentation_is_one(page: str, line: str) -> None:
    arguments = shlex.split(line)[1:]
    parser(arguments[:1]).parse_args(arguments)


def test_the_readme_shows_the_commands_that_a_newcomer_needs() -> None:
    shown = {line.split()[1] for line in commands(README) if line.startswith(PROGRAM)}
    assert {"bench", "report", "validate", "plan", "build", "show", "stats"} <= shown
    assert shown <= set(COMMANDS)


def test_the_targets_of_make_in_the_documentation_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = {
        line.split()[1] for page in PAGES for line in commands(page) if line.startswith("make ")
    }
    assert {"demo", "test"} <= used <= targets


async def test_the_commands_of_the_readme_run_in_their_order(tmp_path: Path) -> None:
    for _, name, text in blocks(README):
        if name:
            (tmp_path / name).write_text(text, encoding="utf-8")
    async with Loopback(answer) as server:
        for file in tmp_path.iterdir():
            file.write_text(file.read_text(encoding="utf-8").replace(SERVER, server.url), "utf-8")
        for line in commands(README):
            if not line.startswith(PROGRAM):
                continue
            arguments = shlex.split(line.replace(SERVER, server.url))[1:]
            code, said = await run(arguments, tmp_path)
            assert code == 0, f"{line}\n{said}"
    assert (tmp_path / "page.html").stat().st_size > 10_000
    assert (tmp_path / "my-page.html").stat().st_size > 10_000
    assert (tmp_path / "kept.csv").exists()


async def run(arguments: list[str], folder: Path) -> tuple[int | None, str]:
    """Exit code of the program and all that it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "misalign_bench.cli.main",
        *arguments,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), timeout=120)
    return process.returncode, said.decode(errors="replace")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_of_the_documentation_leads_to_a_file(page: Path) -> None:
    missing = [
        link
        for link in _LINK.findall(page.read_text(encoding="utf-8"))
        if "://" not in link and not (page.parent / link).exists()
    ]
    assert not missing


@pytest.mark.parametrize("name", ["docs/paper.md", "CONTRIBUTING.md"])
def test_a_path_of_the_source_that_the_documentation_names_exists(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    named = re.findall(r"`([a-z_]+/[\w./*]*|\w+\.py)`", text)
    bases = (ROOT, ROOT / "src" / "misalign_bench")
    missing = [path for path in named if not any(any(base.glob(path)) for base in bases)]
    assert not missing


@pytest.mark.parametrize("name", ["commands.md", "domains.md"])
def test_a_written_page_is_fresh(name: str) -> None:
    written = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert written == pages()[name](), "run `make docs`"


def pages() -> Mapping[str, Callable[[], str]]:
    """The pages that ``make docs`` writes."""
    script = load_script(ROOT / "scripts" / "write_docs.py")
    found: Mapping[str, Callable[[], str]] = script.PAGES
    return found
