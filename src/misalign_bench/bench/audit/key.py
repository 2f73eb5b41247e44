"""The key of an audit: what the annotators do not see, kept to be joined with their labels.

No prompt and no response stands in it, only where each is found, what the evaluator said, and the
weight of the sample.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from misalign_bench.bench.audit.sample import STRATA, Sample, Stratum
from misalign_bench.errors import UserError
from misalign_bench.json_text import read_json
from misalign_bench.records import DIMENSIONS, KINDS, Dimension

FORMAT = "misalign-bench audit key 1"


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One sampled response.

    Attributes:
        item_id: its name as a benchmark item, if it is in the data set.
        flagged: what the evaluator said by dimension; None without a verdict.
    """

    id: str
    stratum: Stratum
    weight: float
    item_id: str
    cluster_id: str
    prompt_id: str
    generator: str
    kind: str
    split: str
    journal_key: str
    flagged: Mapping[Dimension, bool | None]

    @property
    def joint(self) -> bool | None:
        """Three-valued or over the dimensions (contract, section 3)."""
        return three_valued_or(self.flagged)


@dataclass(frozen=True, slots=True)
class Key:
    """The whole sample.

    Attributes:
        population: responses in each stratum.
        unjudged: draws of the run that were never judged and so belong to neither.
        splits: the splits that were drawn from, all if empty.
    """

    audit: str
    seed: int
    evaluators: tuple[str, ...]
    simulated: bool
    unjudged: int
    splits: tuple[str, ...]
    population: Mapping[Stratum, int]
    rows: tuple[KeyRow, ...]


def three_valued_or(answers: Mapping[Dimension, bool | None]) -> bool | None:
    """True if any dimension is, else None if any is unknown, else False.

    >>> three_valued_or({"safety": None, "value": True}), three_valued_or({"safety": None})
    (True, None)
    """
    held = [answers.get(dimension) for dimension in DIMENSIONS]
    if True in held:
        return True
    return None if None in held else False


def key_of(
    sample: Sample,
    *,
    evaluators: Sequence[str],
    simulated: bool,
    unjudged: int,
    splits: Sequence[str] = (),
) -> Key:
    """The key of a sample."""
    rows = tuple(
        KeyRow(
            id=one.id,
            stratum=one.stratum,
            weight=one.weight,
            item_id=one.draw.item_id if one.draw.accepted else "",
            cluster_id=one.draw.cluster_id,
            prompt_id=one.draw.prompt_id,
            generator=one.draw.generator,
            kind=one.draw.kind,
            split=one.draw.split,
            journal_key=one.draw.key,
            flagged=one.draw.flagged,
        )
        for one in sample.items
    )
    return Key(
        sample.audit,
        sample.seed,
        tuple(evaluators),
        simulated,
        unjudged,
        tuple(splits),
        sample.population,
        rows,
    )


def as_json(key: Key) -> str:
    """The key as the text of its file."""
    from dataclasses import asdict

    return json.dumps({"format": FORMAT} | asdict(key), indent=1) + "\n"


def read_key(path: Path) -> Key:
    """Read a key back.

    Raises:
        UserError: no such file, or it is not one of ours.
    """
    try:
        table = read_json(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"cannot be read: {error.strerror}",
            where=str(path),
            mend="Draw the sample first: misalign-bench audit sample RUN",
        ) from None
    except ValueError:
        raise _broken(path) from None
    try:
        return _key(table)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _broken(path) from None


def _key(table: Mapping[str, Any]) -> Key:
    if table["format"] != FORMAT:
        raise ValueError(table["format"])
    rows = tuple(
        KeyRow(
            **{
                **row,
                "weight": float(row["weight"]),
                "stratum": STRATA[STRATA.index(row["stratum"])],
                "kind": KINDS[KINDS.index(row["kind"])],
                "flagged": {name: _flag(row["flagged"][name]) for name in DIMENSIONS},
            }
        )
        for row in table["rows"]
    )
    return Key(
        audit=str(table["audit"]),
        seed=int(table["seed"]),
        evaluators=tuple(map(str, table["evaluators"])),
        simulated=bool(table["simulated"]),
        unjudged=int(table["unjudged"]),
        splits=tuple(map(str, table["splits"])),
        population={name: int(table["population"][name]) for name in STRATA},
        rows=rows,
    )


def _flag(value: object) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise ValueError(value)


def _broken(path: Path) -> UserError:
    return UserError(
        "it is no key of an audit, or is damaged",
        where=str(path),
        mend="Draw the sample again with the same --n and --seed",
    )
