"""``misalign-bench audit``: how good is the evaluator, and what does its error do to the numbers?

``audit sample`` draws responses of a build for people to label, as an offline form and a sheet;
``audit score`` reads their labels and prints how well they agree, how good the evaluator is against
them, and, with ``--bench``, the results of a bench corrected for its error.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from misalign_bench.errors import UserError
from misalign_bench.json_text import read_json

if TYPE_CHECKING:
    from misalign_bench.bench.audit.key import Key
    from misalign_bench.bench.audit.resampling import Resampling

NAME = "audit"
HELP = "have people check the evaluator, and correct a bench for its error"

KEY = "key.json"
HANDED_OUT = "annotators"
_METRICS = ("coverage", "false_failure_rate", "alignment_score")
_SHOWN = ("Coverage", "FFR", "AS")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of both."""
    which = parser.add_subparsers(dest="part", required=True, metavar="sample|score")
    sample = which.add_parser("sample", help="draw responses for people to label")
    sample.add_argument("run_folder", type=Path, metavar="RUN", help="the --out folder of a build")
    sample.add_argument(
        "--n", type=int, default=200, metavar="N", help="how many responses (default: 200)"
    )
    sample.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of choice and order (default: 0)"
    )
    sample.add_argument(
        "--accepted-share",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="share of N from the data set, the rest from what is not in it (default: 0.5)",
    )
    sample.add_argument(
        "--split",
        action="append",
        default=[],
        choices=("train", "validation", "test"),
        help="only prompts of this split; may be given again (default: all)",
    )
    score = which.add_parser("score", help="read the labels and judge the evaluator")
    score.add_argument("run_folder", type=Path, metavar="RUN", help="the --out folder of the build")
    score.add_argument(
        "labels", type=Path, nargs="+", metavar="LABELS", help="one .json or .csv per annotator"
    )
    score.add_argument(
        "--bench",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a bench to correct, of the same data set or judged by its evaluator; repeatable",
    )
    score.add_argument(
        "--resamples", type=int, default=2000, metavar="N", help="for intervals (default: 2000)"
    )
    score.add_argument("--json", action="store_true", help="print as JSON")
    for one in (sample, score):
        one.add_argument(
            "--audit", type=Path, metavar="DIR", help="the audit's folder (default: RUN/audit)"
        )


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked for."""
    if arguments.part == "sample":
        _sample(arguments)
    else:
        _score(arguments)
    return 0


def _sample(arguments: argparse.Namespace) -> None:
    from misalign_bench.bench.audit.key import as_json, key_of
    from misalign_bench.bench.audit.sample import draw_sample
    from misalign_bench.build.judged_draws import judged_draws
    from misalign_bench.report.audit_form import form, sheet

    folder = _folder(arguments)
    held = judged_draws(arguments.run_folder)
    splits = tuple(dict.fromkeys(arguments.split))
    draws = [draw for draw in held.draws if not splits or draw.split in splits]
    sample = draw_sample(draws, arguments.n, arguments.seed, arguments.accepted_share)
    _refuse_other(folder / KEY, sample.audit)
    key = key_of(
        sample,
        evaluators=held.evaluators,
        simulated=held.simulated,
        unjudged=held.unjudged,
        splits=splits,
    )
    _write(folder / KEY, as_json(key).encode())
    _write(folder / HANDED_OUT / "form.html", form(sample).encode())
    _write(folder / HANDED_OUT / "sheet.csv", sheet(sample))
    for stratum, population in key.population.items():
        drawn = sum(row.stratum == stratum for row in key.rows)
        print(f"{stratum}: {drawn} of {population} judged responses")
    if held.unjudged:
        print(f"left out: {held.unjudged} draws that the evaluator never judged")
    if len(held.draws) > len(draws):
        print(f"left out: {len(held.draws) - len(draws)} responses of other or unknown splits")
    print(f"for the annotators: {folder / HANDED_OUT} (form.html or sheet.csv)")
    print(f"not for them: {folder / KEY}")


def _score(arguments: argparse.Namespace) -> None:
    import json

    from misalign_bench.bench.audit.judge_rates import PANEL, corrected_rates
    from misalign_bench.bench.audit.key import read_key
    from misalign_bench.bench.audit.labels import read_labels
    from misalign_bench.bench.audit.resampling import Resampling
    from misalign_bench.bench.audit.results import AUDIT, audited, corrected_bench, majorities
    from misalign_bench.cli.render import json_out

    if arguments.resamples < 0:
        raise UserError("--resamples must be 0 or more")
    folder = _folder(arguments)
    key = read_key(folder / KEY)
    annotators = read_labels(arguments.labels, key)
    how = Resampling(resamples=arguments.resamples, seed=key.seed)
    table = audited(key, annotators, how)
    words = majorities(key, annotators)
    for place in arguments.bench:
        name = place.resolve().name
        if (place / PANEL).is_file():
            table["responding"].append(corrected_rates(name, place, key, words, how))
            continue
        seen = _bench_resampling(place, arguments.run_folder, how)
        table["benches"].append(corrected_bench(name, place, key, words, seen))
    text = json.dumps(table, indent=1, ensure_ascii=True, allow_nan=False) + "\n"
    _write(folder / AUDIT, text.encode())
    if arguments.json:
        json_out(table)
    else:
        _print(table, key)
        print(f"written: {folder / AUDIT}")


def _folder(arguments: argparse.Namespace) -> Path:
    from misalign_bench.bench.audit.results import FOLDER

    given: Path | None = arguments.audit
    run_folder: Path = arguments.run_folder
    return given or run_folder / FOLDER


def _refuse_other(path: Path, audit: str) -> None:
    from misalign_bench.bench.audit.key import read_key

    if path.is_file() and read_key(path).audit != audit:
        raise UserError(
            "it is the key of another sample, whose labels would be lost",
            where=str(path),
            mend="Name another folder: --audit DIR",
        )


def _write(path: Path, content: bytes) -> None:
    from misalign_bench.cli.writing import write_whole

    def write(place: Path) -> None:
        place.write_bytes(content)

    write_whole(path, write)


def _bench_resampling(folder: Path, data: Path, how: Resampling) -> Resampling:
    """The resamples of the bench run, if it is one of the audited data.

    Raises:
        UserError: it is no bench, or one of other items.
    """
    from dataclasses import replace

    from misalign_bench.suites.savacu import load_suite

    path = folder / "results.json"
    try:
        results = read_json(path.read_bytes())
        benched, splits = results["dataset"]["content_hash"], tuple(results["splits"])
        found = replace(how, seed=int(results["seed"]), method=results["interval"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            "there are no readable results", where=str(path), mend="Name a finished bench"
        ) from None
    if load_suite(data, splits).content_hash != benched:
        raise UserError(
            f"it benched other items than those of {data}",
            where=str(folder),
            mend="Audit the data set that was benched",
        )
    return found


def _print(table: Mapping[str, Any], key: Key) -> None:
    from misalign_bench.cli.render import plain
    from misalign_bench.cli.render import table as print_table

    names = ", ".join(one["name"] for one in table["annotators"])
    print(plain(f"evaluator: {', '.join(key.evaluators)}; annotators: {names}"))
    rows = []
    for column, held in table["evaluator"].items():
        agreed = held["agreement"]
        lost = sum(held["not_labelled"].values())
        value = None if agreed is None else agreed["value"]
        shown = [_score_cell(held[name]) for name in _METRICS]
        rows.append([column, held["labelled"], lost, value, *shown])
    statistic = "kappa" if len(table["annotators"]) == 2 else "alpha"
    print_table(rows, ["evaluator on", "labelled", "without label", statistic, *_SHOWN])
    for bench in table["benches"]:
        print(plain(f"bench {bench['name']}"))
        print_table(list(_bench_rows(bench)), ["target", "asked", "on", "estimate", *_SHOWN])
        if any("inversion" in row for row in bench["measurements"]):
            print("inversion assumes that target and evaluator err independently")
    for bench in table["responding"]:
        print(plain(f"answers in {bench['name']}, judged by {bench['judge']}"))
        rated = [
            [one["target"], one["column"], one["raw"], _score_cell(one["rogan_gladen"])]
            for one in bench["rates"]
        ]
        print_table(rated, ["target", "on", "misaligned, raw", "Rogan-Gladen"])


def _bench_rows(bench: Mapping[str, Any]) -> Sequence[Sequence[object]]:
    rows = []
    for one in bench["measurements"]:
        for name in ("raw", "prediction_powered", "inversion"):
            if name in one:
                shown = [_score_cell(one[name][metric]) for metric in _METRICS]
                asked = f"{one['condition']}, {one['framing']}"
                rows.append([one["target"], asked, one["column"], name.replace("_", "-"), *shown])
    return rows


def _score_cell(score: Mapping[str, Any]) -> str:
    if score["value"] is None:
        return str(score["note"])
    if score["low"] is None:
        return f"{score['value']:.3f} ({score['note']})"
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
