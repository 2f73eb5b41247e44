"""``results.json``: the numbers of a bench run and what they rest on (contract, section 5).

``targets[].conditions[]`` holds one measurement each. Its cells (``joint``, ``dimension``,
``domain``, ``generator``, ``by_active``, ``own_items``) give ``coverage``, ``false_failure_rate``
and ``alignment_score`` as ``records.Score``; ``unknown`` counts verdicts left out because the truth
is unknown. ``macro`` gives their means over the domains. ``per_epoch`` gives the joint headline of
each epoch by itself, ``between_epochs`` their standard deviation, ``verdict_flips`` the share of
items whose verdict is not the same in all epochs. ``against_joint`` stands with a condition about
one dimension: how far its AS under the joint truth lies from that of the joint condition, paired by
resample. ``comparisons`` holds, by condition, every two targets on the items of both.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from misalign_bench.bench.comparisons import comparisons
from misalign_bench.bench.detect import Detection, Measurement
from misalign_bench.bench.intervals import Method
from misalign_bench.bench.metrics import (
    Grain,
    Metrics,
    Rates,
    alignment_score,
    by_epoch,
    metrics,
)
from misalign_bench.bench.statistics import Bootstrap, Estimates, Macro
from misalign_bench.bench.table import Flags, ItemTable, VerdictTable
from misalign_bench.errors import UserError
from misalign_bench.llm.model import Usage
from misalign_bench.records import Item, Score

SCHEMA_VERSION = 2
"""Changes with the layout of the file."""

COMPARABILITY_VERSION = 2
"""Changes with the meaning of a number: results of two versions are not to be compared."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a result rests on besides items and verdicts.

    Attributes:
        dataset: name of the data set, ``content_hash`` of its items before ``limit``.
        splits: splits that were benched; empty for data without splits.
        evaluator: who decided what is true of the items; empty if unknown.
        simulated: whether any model behind the items is simulated.
        shared_roles: whether the evaluator was allowed as a target.
        interval: how intervals are made from the resamples.
        until: what ``--until`` took of the items and why it stopped; None without it.
        templates: hash of each prompt template, by name.
        totals: calls, tokens, cost and time by (role, model), as ``Client.usage`` gives them.
        targets: further facts about a target, by name: ``simulated``, ``category`` and the like.
    """

    dataset: str
    content_hash: str
    splits: tuple[str, ...] = ()
    seed: int = 0
    limit: int | None = None
    grain: Grain = "pair"
    resamples: int = 2000
    interval: Method = "bca"
    until: Mapping[str, Any] | None = None
    evaluator: str = ""
    simulated: bool = False
    shared_roles: bool = False
    templates: Mapping[str, str] = field(default_factory=dict)
    totals: Mapping[tuple[str, str], Usage] = field(default_factory=dict)
    targets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def results(items: Sequence[Item], detection: Detection, setting: Setting) -> dict[str, Any]:
    """Compute every number of a run.

    Raises:
        UserError: the grain does not fit the items (see ``check_grain``).
        OutsideWorld: verdicts are missing.
    """
    check_grain(items, setting.grain)
    detection.refuse_pending()
    measurements = detection.measurements
    table = ItemTable.of(items)
    verdicts = [_verdicts(measurement) for measurement in measurements]
    own = [np.array(measurement.own, dtype=bool) for measurement in measurements]
    counted = [
        metrics(table, said, mine, setting.grain) for said, mine in zip(verdicts, own, strict=True)
    ]
    blocks = _estimated(table, measurements, counted, setting)
    targets: dict[str, dict[str, Any]] = {}
    for measurement, said, mine, block in zip(measurements, verdicts, own, blocks, strict=True):
        name = measurement.target
        facts = {"name": name, "weights": measurement.weights, **setting.targets.get(name, {})}
        target = targets.setdefault(name, facts | {"conditions": []})
        epochs = _per_epoch(by_epoch(table, said, mine, setting.grain))
        spread = {"per_epoch": epochs, "between_epochs": _between_epochs(epochs)}
        target["conditions"].append(_head(measurement) | spread | block)
    return header(items, table, setting) | {
        "targets": list(targets.values()),
        "comparisons": _comparisons(table, measurements, counted, setting),
    }


def joint_scores(items: Sequence[Item], detection: Detection, setting: Setting) -> list[Score]:
    """The joint Alignment Score of every measurement, with its interval.

    Raises:
        OutsideWorld: verdicts are missing.
    """
    detection.refuse_pending()
    held = [(_verdicts(one), np.array(one.own, dtype=bool)) for one in detection.measurements]
    estimates = joint_estimates(items, held, setting)
    return [estimates.cell(place)[2] for place in range(len(held))]


def joint_estimates(
    items: Sequence[Item], held: Sequence[tuple[VerdictTable, Flags]], setting: Setting
) -> Estimates:
    """The joint cell of several sets of verdicts on the same items, over the same resamples.

    Args:
        items: what was judged.
        held: verdicts, and which of the items the target's own weights wrote.
        setting: grain, resamples, interval.
    """
    table = ItemTable.of(items)
    cells = [metrics(table, said, own, setting.grain).rates["joint",] for said, own in held]
    return _bootstrap(table, setting).estimates(cells)


def check_grain(items: Sequence[Item], grain: Grain) -> None:
    """Refuse grain ``paper`` for items without domains, best before the first call.

    Raises:
        UserError: an item that would count nowhere.
    """
    bare = sum(not item.domains for item in items)
    if grain == "paper" and bare:
        raise UserError(
            f"grain 'paper' counts per domain, and {bare} of {len(items)} items have no domains",
            mend="Use --grain pair, or give the items domains",
        )


def write_results(path: Path, table: Mapping[str, Any]) -> None:
    """Write the file in one piece or not at all."""
    part = path.with_name(path.name + ".part")
    text = json.dumps(table, indent=1, ensure_ascii=True, allow_nan=False)
    try:
        part.write_text(text + "\n", encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _verdicts(measurement: Measurement) -> VerdictTable:
    return VerdictTable.of((one.item, one.epoch, one.verdict) for one in measurement.judged)


def _estimated(
    table: ItemTable,
    measurements: Sequence[Measurement],
    counted: Sequence[Metrics],
    setting: Setting,
) -> list[dict[str, Any]]:
    """The cells of every measurement, all estimated over the same resamples."""
    estimates = _bootstrap(table, setting).estimates(
        [cell for one in counted for cell in one.rates.values()],
        [share for one in counted for share in one.shares.values()],
    )
    cell_numbers, share_numbers = count(), count()
    blocks, joint_cells = [], []
    for one in counted:
        block: dict[str, Any] = {
            key: {}
            for key in ("joint", "dimension", "domain", "generator", "by_active", "verdict_flips")
        }
        block |= {"own_items": None, "right_dimension": None, "against_joint": None}
        domains = []
        for place, cell in one.rates.items():
            number = next(cell_numbers)
            _put(block, place, _cell(cell, estimates.cell(number)))
            if place[0] == "domain":
                domains.append(number)
            if place == ("joint",):
                joint_cells.append(number)
        for place, share in one.shares.items():
            score = estimates.share(next(share_numbers))
            _put(block, place, _score(score) | {"unknown": share.unknown})
        blocks.append(block | {"macro": _macro(estimates.macro(domains))})
    for single, joint in _single_and_joint(measurements):
        found = estimates.difference(joint_cells[single], joint_cells[joint])
        blocks[single]["against_joint"] = {
            "alignment_score": {"difference": found.value, "low": found.low, "high": found.high}
        }
    return blocks


def _single_and_joint(measurements: Sequence[Measurement]) -> Iterator[tuple[int, int]]:
    """Each measurement about one dimension with the joint one of the same target and framing."""
    joint = {
        (one.target, one.framing): place
        for place, one in enumerate(measurements)
        if one.condition == "joint"
    }
    for place, one in enumerate(measurements):
        other = joint.get((one.target, one.framing))
        if one.condition != "joint" and other is not None:
            yield place, other


def _bootstrap(table: ItemTable, setting: Setting) -> Bootstrap:
    return Bootstrap(
        table.cluster, table.clusters, setting.resamples, setting.seed, method=setting.interval
    )


def _macro(macro: Macro) -> dict[str, Any]:
    return {
        "domains": macro.domains,
        "coverage": _score(macro.coverage),
        "false_failure_rate": _score(macro.false_failure_rate),
        "alignment_score": _score(macro.alignment_score),
    }


def _comparisons(
    table: ItemTable,
    measurements: Sequence[Measurement],
    counted: Sequence[Metrics],
    setting: Setting,
) -> dict[str, list[dict[str, Any]]]:
    """Every two targets under the same condition; those of one name are told by their framing."""
    by_condition: dict[str, dict[str, Metrics]] = {}
    for measurement, counts in zip(measurements, counted, strict=True):
        same = [
            other
            for other in measurements
            if (other.target, other.condition) == (measurement.target, measurement.condition)
        ]
        name = measurement.target
        if len(same) > 1:
            name = f"{name} ({measurement.framing})"
        by_condition.setdefault(measurement.condition, {})[name] = counts
    return {
        condition: [
            one.as_table()
            for one in comparisons(
                table.cluster,
                table.clusters,
                held,
                resamples=setting.resamples,
                seed=setting.seed,
            )
        ]
        for condition, held in by_condition.items()
    }


def _put(block: dict[str, Any], place: tuple[str, ...], value: dict[str, Any]) -> None:
    for key in place[:-1]:
        block = block[key]
    block[place[-1]] = value


def _cell(cell: Rates, scores: tuple[Score, Score, Score]) -> dict[str, Any]:
    names = ("coverage", "false_failure_rate", "alignment_score")
    shown: dict[str, Any] = {k: _score(score) for k, score in zip(names, scores, strict=True)}
    shown["coverage"]["unknown"] = cell.coverage.unknown
    shown["false_failure_rate"]["unknown"] = cell.false_failure_rate.unknown
    return shown


def _score(score: Score) -> dict[str, Any]:
    return asdict(score)


def _head(measurement: Measurement) -> dict[str, Any]:
    epochs = f"epochs: {measurement.epochs}"
    return {
        "condition": measurement.condition,
        "framing": measurement.framing,
        "thresholds": dict(measurement.thresholds) if measurement.thresholds else None,
        "deterministic": measurement.deterministic,
        "epochs": measurement.epochs,
        "epochs_shown": f"{epochs} (deterministic)" if measurement.deterministic else epochs,
    }


def _per_epoch(epochs: Sequence[Rates]) -> list[dict[str, float | None]]:
    """The joint headline of each epoch, in their order."""
    rows: list[dict[str, float | None]] = []
    for cell in epochs:
        hit, alarm = cell.coverage.value, cell.false_failure_rate.value
        both = None if hit is None or alarm is None else alignment_score(hit, alarm)
        rows.append({"coverage": hit, "false_failure_rate": alarm, "alignment_score": both})
    return rows


def _between_epochs(epochs: Sequence[Mapping[str, float | None]]) -> dict[str, float] | None:
    """Standard deviation of the joint headline between epochs; None with one epoch."""
    known = [list(row.values()) for row in epochs if None not in row.values()]
    if len(known) < 2:
        return None
    spread = np.std(np.array(known, dtype=np.float64), axis=0, ddof=1).tolist()
    return dict(zip(("coverage", "false_failure_rate", "alignment_score"), spread, strict=True))


def header(items: Sequence[Item], table: ItemTable, setting: Setting) -> dict[str, Any]:
    """What ``results.json`` says of the run before its numbers."""
    misaligned: Flags = table.misaligned
    return {
        "schema_version": SCHEMA_VERSION,
        "comparability_version": COMPARABILITY_VERSION,
        "mode": "detect",
        "dataset": {
            "name": setting.dataset,
            "content_hash": setting.content_hash,
            "items": len(items),
            "misaligned": int(misaligned.sum()),
            "aligned": int((~misaligned).sum()),
            "clusters": table.clusters,
            "generators": [name for name in table.generator if name],
        },
        "splits": list(setting.splits),
        "seed": setting.seed,
        "limit": setting.limit,
        "grain": setting.grain,
        "resamples": setting.resamples,
        "interval": setting.interval,
        "until": None if setting.until is None else dict(setting.until),
        "evaluator": setting.evaluator,
        "simulated": setting.simulated,
        "shared_roles": setting.shared_roles,
        "templates": dict(setting.templates),
        "totals": [
            {"role": role, "model": model} | asdict(usage)
            for (role, model), usage in sorted(setting.totals.items())
        ],
    }
