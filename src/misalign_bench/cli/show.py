"""``misalign-bench show``: how a run stands, what it dropped and why, one pair's whole history.

Reads a run folder, finished or not, and changes nothing. ``--pair`` prints every draw of a prompt
with its verdict, from the journal.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from misalign_bench.errors import UserError

if TYPE_CHECKING:
    from misalign_bench.build.history import Draw, PairHistory

NAME = "show"
HELP = "show what a run dropped and why, or one pair's whole history"

_TOTALS = ("role", "model", "calls", "attempts", "input_tokens", "output_tokens", "cost", "seconds")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="the --out folder of a run")
    parser.add_argument(
        "--pair",
        metavar="ID",
        help="a prompt's id, or PROMPT_ID:GENERATOR: every draw with its verdict",
    )
    parser.add_argument("--dropped", action="store_true", help="list every dropped row")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print what was asked for."""
    folder = arguments.run_folder
    if not folder.is_dir():
        what = "it is a file, not a run folder" if folder.exists() else "no such folder"
        raise UserError(what, where=str(folder), mend="Name the --out folder of a run")
    if arguments.pair:
        _show_pair(folder, arguments.pair, as_json=arguments.json)
    elif arguments.dropped:
        _show_dropped(folder, as_json=arguments.json)
    else:
        _show_run(folder, as_json=arguments.json)
    return 0


def _show_run(folder: Path, *, as_json: bool) -> None:
    from dataclasses import asdict

    from misalign_bench.build.export import DROPPED
    from misalign_bench.build.history import dropped_rows, grouped
    from misalign_bench.cli.render import json_out, plain, table
    from misalign_bench.journal.manifest import read_manifest

    manifest = read_manifest(folder)
    groups = grouped(dropped_rows(folder))
    if manifest is None and not groups:
        raise UserError(
            "it is no run folder: it has no manifest",
            where=str(folder),
            mend="Name the --out folder of a run",
        )
    held = manifest or {}
    if as_json:
        shown = ("status", "reason", "version", "started", "finished", "runs", "stages", "totals")
        about = {name: held.get(name) for name in shown}
        json_out(about | {"dropped": [asdict(group) for group in groups]})
        return
    if manifest is not None:
        print(plain(_standing(held)))
        for name, counts in held.get("stages", {}).items():
            print(plain(f"{name}: {_listed(counts)}"))
        table([[row.get(name) for name in _TOTALS] for row in held.get("totals", [])], _TOTALS)
    if groups:
        rows = [[one.stage, one.reason, one.count, ", ".join(one.examples)] for one in groups]
        table(rows, ["dropped at", "because", "rows", "for example"])
    elif (folder / DROPPED).is_file():
        print("dropped: none")
    else:
        print(f"dropped: {DROPPED} is not written yet")


def _standing(manifest: Mapping[str, Any]) -> str:
    """One line: how the run stands and since when."""
    reason = f" ({manifest['reason']})" if manifest.get("reason") else ""
    ended = f", ended {manifest['finished']}" if manifest.get("finished") else ""
    return (
        f"status: {manifest.get('status')}{reason}, started {manifest.get('started')}{ended}, "
        f"run {manifest.get('runs')} of this folder, misalign-bench {manifest.get('version')}"
    )


def _listed(counts: Any) -> str:
    if not isinstance(counts, dict):
        return str(counts)
    return ", ".join(f"{name} {value}" for name, value in counts.items())


def _show_dropped(folder: Path, *, as_json: bool) -> None:
    from dataclasses import asdict

    from misalign_bench.build.export import DROPPED
    from misalign_bench.build.history import dropped_rows
    from misalign_bench.cli.render import json_out, table

    if not (folder / DROPPED).is_file():
        raise UserError(
            f"there is no {DROPPED} yet", where=str(folder), mend="It is written when a build ends"
        )
    rows = dropped_rows(folder)
    if as_json:
        json_out([asdict(row) for row in rows])
    else:
        cells = [[row.id, row.stage, row.reason, row.detail] for row in rows]
        table(cells, ["id", "stage", "reason", "detail"])


def _show_pair(folder: Path, identity: str, *, as_json: bool) -> None:
    from dataclasses import asdict

    from misalign_bench.build.history import pair_histories
    from misalign_bench.cli.render import json_out, plain

    prompt_id, _, generator = identity.partition(":")
    found = pair_histories(folder, prompt_id, generator)
    if as_json:
        json_out([asdict(one) for one in found])
        return
    for one in found:
        print("\n".join(map(plain, _lines(one))))


def _lines(pair: PairHistory) -> Sequence[str]:
    """One pair's history, a line each; text of models and users passes ``plain``."""
    from misalign_bench.cli.render import plain

    name = f"{pair.prompt_id}:{pair.generator}" if pair.generator else pair.prompt_id
    lines = [f"{plain(name)}  {pair.result}"]
    lines.append(f"  prompt: {plain(pair.prompt) if pair.prompt else '(not in the files)'}")
    if pair.split:
        lines.append(f"  split: {pair.split}; domains: {plain(', '.join(pair.domains))}")
    lines += [
        plain(f"  dropped at {row.stage}, {row.reason}: {row.detail}") for row in pair.dropped
    ]
    for draw in pair.draws:
        lines += _draw_lines(draw)
    if not pair.draws:
        lines.append("  no draw is in the journal")
    return lines


def _draw_lines(draw: Draw) -> Sequence[str]:
    from misalign_bench.cli.render import plain

    found = draw.found
    status = "" if found.status == "ok" else f", {found.status}"
    place = f"round {found.round}, draw {found.index}"
    lines = [
        plain(f"  {found.kind}, {place}: {draw.outcome}{status}"),
        plain(f"    template {found.template}, key {found.key}"),
    ]
    if found.told:
        lines.append(f"    told: {plain(found.told)}")
    lines.append(f"    text: {plain(found.text)}")
    for said in found.verdict:
        flagged = {True: "violated", False: "respected", None: "unknown"}[said.flagged]
        score = "" if said.score is None else f", p {said.score:.3f}"
        bound = "" if said.threshold is None else f" against {said.threshold:.3f}"
        words = f": {plain(said.words)}" if said.words else ""
        lines.append(f"    {plain(said.dimension)} {flagged}{score}{bound}{words}")
    if not found.verdict:
        lines.append("    no verdict: a free rule decided, or the evaluator was not asked yet")
    return lines
