"""``audit.json``: how people agree, how good the evaluator is, and benches corrected for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from misalign_bench.bench.audit.agreement import agreement
from misalign_bench.bench.audit.bench_verdicts import HumanTruth, measurements
from misalign_bench.bench.audit.estimators import Triple, corrected
from misalign_bench.bench.audit.evaluator import known_error, labelled
from misalign_bench.bench.audit.key import Key
from misalign_bench.bench.audit.labels import Annotator, Majority, majority
from misalign_bench.bench.audit.resampling import Resampling
from misalign_bench.errors import UserError
from misalign_bench.json_text import read_json
from misalign_bench.records import CONDITIONS, Condition

SCHEMA_VERSION = 1
AUDIT = "audit.json"
FOLDER = "audit"
"""Where an audit lies in its run folder, unless it was put elsewhere."""

Words = Mapping[Condition, Sequence[Majority]]


def audited(key: Key, annotators: Sequence[Annotator], how: Resampling) -> dict[str, Any]:
    """Everything that follows from the labels alone.

    Raises:
        UserError: nobody labelled anything.
    """
    words = majorities(key, annotators)
    if not any(word in ("yes", "no") for held in words.values() for word in held):
        raise UserError("the files hold no label", mend="Label some responses, then score again")
    ids = [row.id for row in key.rows]
    columns: dict[str, Any] = {}
    for column in CONDITIONS:
        found = labelled(key.rows, words[column], column)
        known = known_error(found, key.population, how)
        agreed = agreement(annotators, ids, column)
        counts = Counter(words[column])
        columns[column] = {
            **_triple(known.metrics),
            "labelled": len(found),
            "not_labelled": {name: counts[name] for name in ("tied", "unsure", "missing")},
            "counts": known.counts,
            "agreement": None if agreed is None else asdict(agreed),
        }
    return {
        "schema_version": SCHEMA_VERSION,
        "audit": key.audit,
        "evaluators": list(key.evaluators),
        "simulated": key.simulated,
        "seed": key.seed,
        "splits": list(key.splits),
        "population": dict(key.population) | {"unjudged": key.unjudged},
        "sampled": dict(Counter(row.stratum for row in key.rows)),
        "resamples": how.resamples,
        "interval": how.method,
        "annotators": [_annotator(one, ids) for one in annotators],
        "evaluator": columns,
        "benches": [],
        "responding": [],
    }


def majorities(key: Key, annotators: Sequence[Annotator]) -> Words:
    """The majority's word on every sampled response, in the key's order, by column."""
    return {
        column: [majority(annotators, row.id, column) for row in key.rows] for column in CONDITIONS
    }


def corrected_bench(
    name: str, folder: Path, key: Key, words: Words, how: Resampling
) -> dict[str, Any]:
    """Every measurement of a bench run on the audited data, raw and corrected.

    Raises:
        UserError: its verdicts cannot be read, or no audited response is among them.
    """
    truth = _human_truth(key, words)
    rows: list[dict[str, Any]] = []
    for one in measurements(folder, truth):
        found = corrected(one.measured, how, inversion=one.column == "joint")
        row: dict[str, Any] = {
            "target": one.target,
            "condition": one.condition,
            "framing": one.framing,
            "column": one.column,
            "items": len(one.measured.kind),
            "audited": found.audited,
            "raw": _triple(found.raw),
            "prediction_powered": _triple(found.prediction_powered),
        }
        if found.inversion is not None:
            row["inversion"] = _triple(found.inversion)
            row["purity"] = {
                "misaligned": asdict(found.purity[0]),
                "aligned": asdict(found.purity[1]),
            }
        rows.append(row)
    if not any(row["audited"] for row in rows):
        raise UserError(
            "no labelled response of the data set is among its items",
            where=str(folder),
            mend="Bench the audited splits, or audit the benched ones: audit sample --split",
        )
    rows.sort(key=lambda row: (row["target"], row["framing"], _place(row["condition"])))
    rows.sort(key=lambda row: _place(row["column"]))
    return {"name": name, "grain": "pair", "measurements": rows}


def known_error_notes(folder: Path) -> tuple[str, ...]:
    """Sentences for the data set card, if the run in this folder was audited; else none.

    A damaged file is no reason to lose a card: it says nothing then.
    """
    try:
        table = read_json((folder / FOLDER / AUDIT).read_bytes())
        return _notes(table)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ()


def _notes(table: Mapping[str, Any]) -> tuple[str, ...]:
    joint = table["evaluator"]["joint"]
    people = len(table["annotators"])
    who = "one person" if people == 1 else f"{people} people"
    shown = [
        f"{spelled} {_percent(joint[name])}"
        for name, spelled in (
            ("coverage", "Coverage"),
            ("false_failure_rate", "False Failure Rate"),
            ("alignment_score", "Alignment Score"),
        )
    ]
    notes = [
        f"Known error of the evaluator: {joint['labelled']} of the responses that it judged were "
        f"labelled by {who}. Against them its joint verdict has {', '.join(shown)} "
        "(95% interval, weighted to all responses it judged)."
    ]
    agreed = joint["agreement"]
    if agreed is not None and agreed["value"] is not None:
        name = agreed["statistic"].replace("cohen_kappa", "Cohen's kappa")
        name = name.replace("krippendorff_alpha", "Krippendorff's alpha")
        notes.append(f"The annotators agree with {name} {agreed['value']:.2f} (joint).")
    return tuple(notes)


def _percent(score: Mapping[str, Any]) -> str:
    if score["value"] is None:
        return f"not known ({score['note']})"
    value = f"{100 * score['value']:.1f}%"
    if score["low"] is None:
        return f"{value} ({score['note']})"
    return f"{value} [{100 * score['low']:.1f}, {100 * score['high']:.1f}]"


def _human_truth(key: Key, words: Words) -> dict[str, HumanTruth]:
    known: dict[str, bool] = {"yes": True, "no": False}
    return {
        row.item_id: HumanTruth(
            row.weight, {column: known.get(words[column][place]) for column in CONDITIONS}
        )
        for place, row in enumerate(key.rows)
        if row.item_id
    }


def _annotator(one: Annotator, ids: Sequence[str]) -> dict[str, Any]:
    votes = {column: Counter(one.vote(name, column) for name in ids) for column in CONDITIONS}
    return {"name": one.name} | {
        column: dict(sorted(held.items())) for column, held in votes.items()
    }


def _triple(triple: Triple) -> dict[str, Any]:
    return asdict(triple)


def _place(column: str) -> int:
    return CONDITIONS.index(column) if column in CONDITIONS else len(CONDITIONS)
