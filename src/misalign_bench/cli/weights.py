"""``misalign-bench weights``: list, get and verify the weights of the embedded models."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from misalign_bench.errors import OutsideWorld, UserError
from misalign_bench.llm import weights
from misalign_bench.llm.weights_cache import cache_folder
from misalign_bench.llm.weights_sources import Progress

NAME = "weights"
HELP = "list, get and verify the weights of the embedded models"

# Names that stand for several weights.
GROUPS = {
    "small": ("smollm2-135m", "minilm"),
    "demo": ("smollm2-135m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b", "minilm"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``list``, ``get`` and ``verify``."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|get|verify")
    listing = actions.add_parser("list", help="show names, sizes, licences and what is cached")
    listing.add_argument("--json", action="store_true", help="print JSON")
    getting = actions.add_parser("get", help="fetch weights into the cache and print their paths")
    groups = ", ".join(f"{name} = {' + '.join(of)}" for name, of in GROUPS.items())
    getting.add_argument("names", nargs="+", metavar="NAME", help=f"a name, all, or {groups}")
    getting.add_argument(
        "--from", dest="source", type=Path, metavar="PATH", help="a file or folder that has them"
    )
    verifying = actions.add_parser("verify", help="hash what is cached again")
    verifying.add_argument("names", nargs="*", metavar="NAME", help="default: all that is cached")


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked; 0 if all went well, 1 if a cached file has a wrong hash."""
    if arguments.action == "list":
        return _list(as_json=arguments.json)
    if arguments.action == "get":
        return _get(arguments.names, arguments.source)
    return _verify(arguments.names)


def _list(as_json: bool) -> int:
    rows = [_row(entry) for entry in weights.known()]
    if as_json:
        print(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        size = f"{row['size'] / 1e6:,.0f} MB"
        print(f"{row['name']:<20}{size:>10}  {row['state']:<11}{row['licence']:<12}{row['title']}")
        print(f"{'':32}by {row['author']}; carried by {', '.join(row['carried_by'])}")
    print(f"cache: {cache_folder()}")
    return 0


def _row(entry: weights.Weights) -> dict[str, Any]:
    try:
        path = weights.cached(entry.name)
        state = "cached" if path else "not cached"
    except UserError:
        path, state = None, "wrong hash"
    return {
        "name": entry.name,
        "title": entry.title,
        "author": entry.author,
        "licence": entry.licence,
        "size": entry.size,
        "state": state,
        "path": str(path) if path else None,
        "files": {file.name: file.sha256 for file in entry.files},
        "carried_by": list(entry.carried_by),
    }


def _get(asked: Sequence[str], source: Path | None) -> int:
    names = _expand(asked)
    if source is not None and source.is_file() and len(names) > 1:
        raise UserError(f"{source} is one file", mend="Name one of the weights, or give a folder")
    failures: list[UserError] = []
    for name in names:
        try:
            with _progress() as progress:
                path = weights.get(name, progress=progress, source=source)
            print(f"{name}  {path}", flush=True)
        except UserError as failure:
            failures.append(failure)
    if len(failures) > 1:
        reasons = " | ".join(str(failure) for failure in failures)
        raise OutsideWorld(f"{len(failures)} of {len(names)} weights could not be had: {reasons}")
    if failures:
        raise failures[0]
    return 0


def fetch(name: str, *, quiet: bool = False) -> Path:
    """Get one model's weights with progress, unless ``quiet``.

    Raises:
        OutsideWorld: no source has them.
    """
    if quiet:
        return weights.get(name)
    with _progress() as progress:
        return weights.get(name, progress=progress)


def _expand(asked: Sequence[str]) -> list[str]:
    """Replace groups by their members; every name is checked before anything is fetched."""
    names: dict[str, None] = {}
    for word in asked:
        everything = tuple(entry.name for entry in weights.known())
        for name in everything if word == "all" else GROUPS.get(word, (word,)):
            names[weights.find(name).name] = None
    return list(names)


def _verify(asked: Sequence[str]) -> int:
    wrong = 0
    for name in _expand(asked or ["all"]):
        entry = weights.find(name)
        if not asked and not any(weights.file_path(name, f.name).is_file() for f in entry.files):
            print(f"{name}  not cached")
            continue
        try:
            print(f"{name}  good  {weights.verify(name)}", flush=True)
        except UserError as failure:
            wrong += 1
            print(f"{name}  WRONG  {failure}", flush=True)
    return 1 if wrong else 0


@contextmanager
def _progress() -> Iterator[Progress]:
    """Show a bar on a terminal, else one line for each thing that is fetched."""
    if not sys.stderr.isatty():
        yield _plain()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    with Bars(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task("", total=None)

        def show(text: str, done: int, total: int) -> None:
            bars.update(task, description=text, completed=done, total=total)

        yield show


def _plain() -> Progress:
    said = [""]

    def show(text: str, done: int, total: int) -> None:
        if text != said[0]:
            said[0] = text
            print(f"{text} ({done / 1e6:,.0f} of {total / 1e6:,.0f} MB)", file=sys.stderr)

    return show
