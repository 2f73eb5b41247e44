"""The page as a folder: ``index.html`` with as many examples as one wants, in data files beside it.

Opened straight from disk a page may fetch nothing, but it may load scripts. So each data file is a
script of one call that hands over one JSON text; the page asks for a file when an example in it is
opened. The policy knows data files by a nonce that the page's own script gives them: on ``file://``
an address proves nothing (``'self'`` is every file of the disk in one browser, none in another),
and hashes need a fetch. The nonce is a hash of all data files, so whoever wrote a text in them
cannot have known it. Files are written as the examples come: memory hardly grows with their number.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from misalign_bench.errors import UserError
from misalign_bench.journal.failures import from_system
from misalign_bench.llm.secrets import register_environment
from misalign_bench.report.example_index import ExampleIndex
from misalign_bench.report.examples import of_every_run
from misalign_bench.report.page import json_block, lay_out
from misalign_bench.report.runs import Runs

EXAMPLES = 10_000
"""How many verdicts a folder shows, if nobody says otherwise."""

IN_A_FILE = 100
"""Examples in one data file: some hundred kilobytes."""

PAGE = "index.html"

_OURS = re.compile(r"index\.html|data-(index|\d{4,})\.js")


def write_folder(runs: Runs, out: Path, *, title: str = "", limit: int = EXAMPLES) -> None:
    """Write the folder, whole or not at all; an older page in its place is replaced.

    Raises:
        UserError: the folder holds something else, or a run's files are damaged.
        OutsideWorld: full disk or input/output error.
    """
    _refuse_other_files(out)
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        _fill(part, runs, title, limit)
        _put(part, out)
    except OSError as error:
        raise from_system(error, out) from None
    finally:
        with suppress(OSError):
            shutil.rmtree(part)


def data_file(name: str, value: Any) -> str:
    r"""The text of a data file: one call with one string, in which nothing can end the string.

    >>> print(data_file("1", ["</script>"]), end="")
    misalignBench("1","[\"\\u003c/script\\u003e\"]");
    """
    return f"misalignBench({json.dumps(name)},{json.dumps(json_block(value))});\n"


def _fill(folder: Path, runs: Runs, title: str, limit: int) -> None:
    register_environment()
    index, written = ExampleIndex(), hashlib.sha256()

    def write(name: str, content: Any) -> None:
        text = data_file(name, content)
        written.update(text.encode())
        _write(folder / f"data-{name.rjust(4, '0')}.js", text)

    batch: list[dict[str, Any]] = []
    file = 1
    for place, one in of_every_run(runs, limit):
        index.add(place, one, file, len(batch))
        batch.append(asdict(one))
        if len(batch) == IN_A_FILE:
            write(str(file), batch)
            batch, file = [], file + 1
    if batch:
        write(str(file), batch)
    write("index", index.table())
    nonce = written.hexdigest()[:32]
    page = lay_out(runs, title, number=len(index), embedded={"nonce": nonce}, nonce=nonce)
    _write(folder / PAGE, page)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _refuse_other_files(out: Path) -> None:
    try:
        others = [held.name for held in out.iterdir() if not _OURS.fullmatch(held.name)]
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"is no folder: {error.strerror}", where=str(out)) from None
    if others:
        raise UserError(
            f"the folder holds other files than a page's ({min(others)})",
            where=str(out),
            mend="Name a folder of its own: --out page",
        )


def _put(part: Path, out: Path) -> None:
    """Move the new folder to its place; the old one stays until then."""
    if not out.exists():
        part.rename(out)
        return
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    out.rename(old)
    try:
        part.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old)
