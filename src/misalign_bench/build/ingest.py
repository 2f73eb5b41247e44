"""Stage I, step 1: prompts in, with stable ids, and rows that cannot be used out with a reason.

The authors' classified CSV (paper: LLM-Prompt-Dataset, 20,148 prompts) is one of the formats: its
columns ``safety_name``, ``values_name`` and ``cultural_name`` become ``Prompt.published``. So do
the columns ``labels`` and ``domains`` of our own files (lists of ``dimension/name``).
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from misalign_bench.build.language import is_english
from misalign_bench.build.readers import read_rows
from misalign_bench.config import SourceSettings
from misalign_bench.errors import UserError
from misalign_bench.json_text import read_json
from misalign_bench.records import DIMENSIONS, Dimension, Dropped, Prompt, Reason
from misalign_bench.taxonomy.loader import Taxonomy, taxonomy

STAGE = "ingest"
PUBLISHED_COLUMNS: Mapping[str, Dimension] = {
    "safety_name": "safety",
    "values_name": "value",
    "cultural_name": "culture",
}
"""The label columns of the authors' CSV."""

LABEL_COLUMNS = ("labels", "domains")
"""Columns of our own files that hold lists of ``dimension/name``."""

NO_LABEL = frozenset({"", "none", "unknown"})
"""What stands where a prompt has no label in a dimension; culture's catch-all is no label either"""


@dataclass(frozen=True, slots=True)
class Ingested:
    """What was read.

    Attributes:
        prompts: in the order of the source, no two with the same id.
        dropped: rows left out, each with its reason and its row.
        rows: how many rows there were.
    """

    prompts: tuple[Prompt, ...]
    dropped: tuple[Dropped, ...]
    rows: int


def ingest(settings: SourceSettings) -> Ingested:
    """Read prompts from a file or a data set and drop rows that cannot be used.

    Dropped are rows that are empty, over ``max_characters``, not in the ``language``, or equal to
    an earlier row (after Unicode normalisation). ``limit`` counts rows, from the start.

    Raises:
        UserError: the source is missing, broken, empty or without prompts, or a row holds
            something that is no text or no label of the taxonomy.
        OutsideWorld: the source cannot be reached.
    """
    if settings.language not in (None, "en"):
        raise UserError(
            f"the language {settings.language!r} cannot be told",
            where="source.language",
            mend="Write en, or null to keep every language",
        )
    rows = read_rows(
        settings.path,
        dataset=settings.dataset,
        dataset_split=settings.dataset_split,
        prompt_column=settings.prompt_column,
        limit=settings.limit,
    )
    source = Path(settings.path).name if settings.path else settings.dataset
    columns = label_columns(rows)
    first_rows: dict[str, int] = {}
    prompts: list[Prompt] = []
    dropped: list[Dropped] = []
    for number, row in enumerate(rows, start=1):
        where = f"row {number} of {source}"
        text = _text(row.get(settings.prompt_column), settings.prompt_column, where)
        identity = content_id(text)
        if objection := _objection(text, settings) or _seen(first_rows.get(identity)):
            dropped.append(Dropped(identity, STAGE, objection[0], f"{where}{objection[1]}"))
            continue
        first_rows[identity] = number
        published = row_labels(row, columns, where) if columns else None
        prompts.append(Prompt(identity, text, source, number, published=published))
    if not prompts:
        raise UserError("no usable prompt in it", where=source, mend=_counts(dropped))
    return Ingested(tuple(prompts), tuple(dropped), len(rows))


def content_id(text: str) -> str:
    r"""Return the stable id of a prompt: ``p`` and 16 hex digits of the SHA-256 of its NFC text.

    >>> content_id("cafe\u0301") == content_id("caf\u00e9") == "p850f7dc43910ff89"
    True
    """
    composed = unicodedata.normalize("NFC", text)
    return f"p{hashlib.sha256(composed.encode()).hexdigest()[:16]}"


def label_columns(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the columns that hold published labels: the authors' three, or one of ours."""
    held = set(rows[0]) if rows else set()
    if theirs := tuple(column for column in PUBLISHED_COLUMNS if column in held):
        return theirs
    return tuple(column for column in LABEL_COLUMNS if column in held)[:1]


def row_labels(row: Mapping[str, Any], columns: Sequence[str], where: str) -> tuple[str, ...]:
    """Return the labels of a row as ``dimension/name``, in the taxonomy's order.

    Raises:
        UserError: a label is not in the taxonomy.
    """
    held = taxonomy()
    found: set[str] = set()
    for column in columns:
        dimension = PUBLISHED_COLUMNS.get(column)
        if dimension is not None:
            found |= _named(held, dimension, row.get(column), where)
            continue
        for label in _listed(row.get(column), column, where):
            prefix, _, name = label.partition("/")
            if prefix not in DIMENSIONS:
                raise UserError(f"{label!r} is no label", where=where, mend="Write dimension/name")
            found |= _named(held, prefix, name, where)
    return tuple(sorted(found, key=held.index))


def _named(held: Taxonomy, dimension: Dimension, name: Any, where: str) -> set[str]:
    """The key of a published name, none for what stands for no label."""
    name = "" if name is None else str(name).strip()
    if name.casefold() in NO_LABEL:
        return set()
    domain = held.get(dimension, name)
    if domain is None:
        raise UserError(
            f"{name!r} is no {dimension} domain", where=where, mend="See misalign-bench domains"
        )
    return {domain.key}


def _listed(value: Any, column: str, where: str) -> list[str]:
    """A list of labels, which in a CSV is written as JSON or parted by semicolons."""
    if value is None:
        return []
    if isinstance(value, str):
        if not value.lstrip().startswith("["):
            return [label.strip() for label in value.split(";") if label.strip()]
        try:
            value = read_json(value)
        except ValueError:
            value = None
    if not isinstance(value, list) or not all(isinstance(label, str) for label in value):
        raise UserError(f"{column!r} is no list of labels", where=where)
    return value


def _text(value: Any, column: str, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UserError(f"{column!r} holds no text, but {value!r:.40}", where=where)
    if "\0" in value:
        raise UserError(f"{column!r} holds a NUL character", where=where)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(f"{column!r} holds half of a surrogate pair", where=where) from None
    return unicodedata.normalize("NFC", value)


def _objection(text: str, settings: SourceSettings) -> tuple[Reason, str] | None:
    if not text.strip():
        return Reason.EMPTY, ""
    if len(text) > settings.max_characters:
        return Reason.TOO_LONG, f", {len(text)} characters"
    if settings.language == "en" and not is_english(text):
        return Reason.LANGUAGE, ", not English"
    return None


def _seen(first_row: int | None) -> tuple[Reason, str] | None:
    return (Reason.IDENTICAL, f", equal to row {first_row}") if first_row else None


def _counts(dropped: Sequence[Dropped]) -> str:
    reasons = [row.reason.value for row in dropped]
    counts = ", ".join(f"{reasons.count(reason)} {reason}" for reason in sorted(set(reasons)))
    return f"All {len(dropped)} rows are dropped: {counts}"
