"""A report of run folders as one file: a page, or the table alone as Markdown or LaTeX."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from misalign_bench.errors import UserError
from misalign_bench.journal.failures import from_system
from misalign_bench.report.page import EXAMPLES, render
from misalign_bench.report.result_tables import latex, markdown
from misalign_bench.report.runs import Runs, read_runs

KINDS = (".html", ".md", ".tex")


def write_report(
    folders: Sequence[Path],
    out: Path,
    *,
    title: str = "",
    limit: int = EXAMPLES,
    mixed_versions: bool = False,
) -> Runs:
    """Read run folders and write their report, whole or not at all.

    Args:
        folders: bench and build run folders.
        out: the file; its ending says what it holds.
        title: heading of a page; by default it names the data set.
        limit: how many example verdicts a page shows at most.
        mixed_versions: see ``read_runs``.

    Returns:
        What was read.

    Raises:
        UserError: a folder that is no finished run, a damaged file, a missing extra, an unknown
            ending, a table without a bench.
        OutsideWorld: full disk or input/output error.
    """
    if out.suffix.lower() not in KINDS:
        raise UserError(
            f"a report is no '{out.suffix}' file", where=str(out), mend=f"Use {', '.join(KINDS)}"
        )
    runs = read_runs(folders, mixed_versions=mixed_versions)
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


def _text(runs: Runs, kind: str, title: str, limit: int) -> str:
    if kind == ".html":
        return render(runs, title=title, limit=limit)
    if not runs.benches:
        raise UserError("no folder holds a bench, and a table has nothing else to show")
    return latex(runs) if kind == ".tex" else markdown(runs)
