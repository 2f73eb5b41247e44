"""How far the wording of the question moves a target (design: Stage II, framing).

``results.json`` holds under ``framings`` one entry per target and condition (``bench/framing.py``):
what each wording reached on the items to choose on and on the benched ones, the one that was
chosen, and the default as it was benched. What was chosen is reported on items that had no part in
the choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from misalign_bench.report.cells import Apart, Cell, read_cell

_AS_BENCHED = "as benched"


@dataclass(frozen=True, slots=True)
class Wording:
    """One way to ask: a framing, with a threshold fitted for it or without.

    ``note`` tells the default from the same framing with another threshold.
    """

    framing: str
    calibrated: bool
    note: str = ""

    @property
    def shown(self) -> str:
        """For people.

        >>> Wording("few_shot", True).shown, Wording("violates", False).shown
        ('few shot, calibrated', 'violates')
        """
        calibrated = "calibrated" if self.calibrated else ""
        return ", ".join(filter(None, (self.framing.replace("_", " "), calibrated, self.note)))


@dataclass(frozen=True, slots=True)
class Asked:
    """What a target reached under one wording, by split, and its AUC where it gives a score."""

    wording: Wording
    cells: Mapping[str, Cell]
    auc: Mapping[str, float | None]
    default: bool
    chosen: bool


@dataclass(frozen=True, slots=True)
class Spread:
    """All wordings of one target under one condition.

    Attributes:
        chosen_on: the split or set that the choice was made on, ``why`` in words.
        splits: the splits measured, the one to report on first.
        low, high: least and greatest AS of the wordings on the first split; None if none has one.
        gain: AS of the chosen wording minus that of the default on the first split.
    """

    target: str
    condition: str
    chosen_on: str
    why: str
    splits: tuple[str, ...]
    asked: tuple[Asked, ...]
    low: float | None
    high: float | None
    gain: Apart | None

    @property
    def wordings(self) -> int:
        """How many were measured on the split to report on."""
        return sum(self.splits[0] in one.cells for one in self.asked)


def read_spreads(table: Any) -> tuple[Spread, ...]:
    """Read ``framings`` of a result; empty if there is none.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is no such list.
    """
    return tuple(_spread(entry) for entry in table or () if entry["measurements"])


def _spread(entry: Mapping[str, Any]) -> Spread:
    reported = str(entry["chosen"]["split"])
    rows: dict[Wording, dict[str, Mapping[str, Any]]] = {}
    for row in entry["measurements"]:
        rows.setdefault(_wording(row), {})[str(row["split"])] = row
    values = [
        held[reported]["alignment_score"]["value"] for held in rows.values() if reported in held
    ]
    known = [value for value in values if value is not None]
    default = _default(entry["default"], rows, reported)
    chosen, gain = _wording(entry["chosen"]), entry.get("gain") or {}
    names = {split for held in rows.values() for split in held}
    return Spread(
        target=str(entry["target"]),
        condition=str(entry["condition"]),
        chosen_on=str(entry["chosen_on"]).replace("_", " "),
        why=str(entry.get("why") or ""),
        splits=(reported, *sorted(names - {reported})),
        asked=tuple(_asked(rows, default, chosen)),
        low=min(known, default=None),
        high=max(known, default=None),
        gain=Apart(float(gain["difference"]), gain["low"], gain["high"])
        if gain.get("difference") is not None
        else None,
    )


def _default(
    entry: Mapping[str, Any], rows: dict[Wording, dict[str, Mapping[str, Any]]], reported: str
) -> Wording:
    """The wording of the default: one of the measured, or a row of its own.

    A threshold that the run brought along is another one than that fitted for the choice.
    """
    wording = _wording(entry)
    held = rows.get(wording, {}).get(reported)
    if held is not None and held.get("thresholds") == entry.get("thresholds"):
        return wording
    own = Wording(wording.framing, wording.calibrated, _AS_BENCHED)
    rows[own] = {reported: entry}
    return own


def _asked(
    rows: Mapping[Wording, Mapping[str, Mapping[str, Any]]], default: Wording, chosen: Wording
) -> Iterator[Asked]:
    for wording, held in rows.items():
        yield Asked(
            wording=wording,
            cells={split: read_cell(row) for split, row in held.items()},
            auc={split: row.get("auc") for split, row in held.items()},
            default=wording == default,
            chosen=wording == chosen,
        )


def _wording(row: Mapping[str, Any]) -> Wording:
    return Wording(str(row["framing"]), bool(row["calibrated"]))
