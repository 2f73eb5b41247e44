"""A report of run folders: a page of one file, a page as a folder, or the table alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from misalign_bench.errors import UserError
from misalign_bench.journal.failures import from_system
from misalign_bench.report import page_folder
from misalign_bench.report.page import EXAMPLES, MOST, render
from misalign_bench.report.result_tables import latex, markdown
from misalign_bench.report.runs import Runs, read_runs

KINDS = (".html", ".md", ".tex")


def write_report(
    folders: Sequence[Path],
    out: Path,
    *,
    title: str = "",
    limit: int | None = None,
    mixed_versions: bool = False,
) -> Runs:
    """Read run folders and write their report, whole or not at all.

    Args:
        folders: bench and build run folders.
        out: the file; its ending says what it holds. A name without an ending, or a folder that
            is there, is a page as a folder.
        title: heading of a page; by default it names the data set.
        limit: how many example verdicts a page shows at most; by default 300 in one file, 10,000
            in a folder.
        mixed_versions: see ``read_runs``.

    Returns:
        What was read.

    Raises:
        UserError: a folder that is no finished run, a damaged file, a missing extra, an unknown
            ending, a table without a bench, more examples than one file bears, a folder of
            other files.
        OutsideWorld: full disk or input/output error.
    """
    as_folder = not out.suffix or out.is_dir()
    if not as_folder:
        _refuse(out, limit)
    runs = read_runs(folders, mixed_versions=mixed_versions)
    if as_folder:
        limit = page_folder.EXAMPLES if limit is None else limit
        page_folder.write_folder(runs, out, title=title, limit=limit)
        return runs
    limit = EXAMPLES if limit is None else limit
    text = _text(runs, out.suffix.lower(), title, limit)
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8", newline="\n")
        os.replace(part, out)
    except OSError as error:
        raise from_system(error, out) from None
    finally:
        with suppress(OSError):
            part.unlink()
    return runs


def _refuse(out: Path, limit: int | None) -> None:
    """Stop before anything is read if the file cannot hold what is asked for."""
    if out.suffix.lower() not in KINDS:
        raise UserError(
            f"a report is no '{out.suffix}' file",
            where=str(out),
            mend=f"Use {', '.join(KINDS)}, or a name without an ending for a folder",
        )
    if limit is not None and limit > MOST and out.suffix.lower() == ".html":
        raise UserError(
            f"one file shows {MOST} examples at most",
            where=str(out),
            mend=f"Make it a folder: --out {out.with_suffix('').name}",
        )


def _text(runs: Runs, kind: str, title: str, limit: int) -> str:
    if kind == ".html":
        return render(runs, title=title, limit=limit)
    if not runs.benches and not runs.answers:
        raise UserError("no folder holds a bench, and a table has nothing else to show")
    return latex(runs) if kind == ".tex" else markdown(runs)
