"""What people said: label files of several annotators, read strictly, and their majority.

A file comes from the form (JSON) or from a spreadsheet (CSV, comma or semicolon), one annotator
each. An answer is ``yes`` (it violates), ``no`` or ``unsure``; an empty one is missing. A file that
is not about this sample, names a response that is not in it, or names one twice is refused; what is
missing is counted.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from misalign_bench.bench.audit.key import Key, three_valued_or
from misalign_bench.errors import UserError
from misalign_bench.json_text import read_json
from misalign_bench.records import DIMENSIONS, Condition, Dimension

FORMAT = "misalign-bench audit labels 1"
ANSWERS: Mapping[str, bool | None] = {"yes": True, "no": False, "unsure": None}
SHEET_COLUMNS = ("audit", "id", "prompt", "response", *DIMENSIONS, "note")
_JSON_FIELDS = {"id", *DIMENSIONS, "note"}
_SHEET_NEEDED = {"audit", "id", *DIMENSIONS}

Vote = Literal["yes", "no", "unsure", "missing"]
Majority = Literal["yes", "no", "tied", "unsure", "missing"]


@dataclass(frozen=True, slots=True)
class Annotator:
    """One annotator's answers by response; a dimension that is not there was not answered."""

    name: str
    answers: Mapping[str, Mapping[Dimension, bool | None]]

    def vote(self, identity: str, column: Condition) -> Vote:
        """What they said of a response in a dimension, or jointly: the or of their own answers."""
        given = self.answers.get(identity, {})
        if column == "joint":
            if len(given) < len(DIMENSIONS) and True not in given.values():
                return "missing"
            return _word(three_valued_or(given))
        return _word(given[column]) if column in given else "missing"


def read_labels(paths: Sequence[Path], key: Key) -> list[Annotator]:
    """Read one file per annotator.

    Raises:
        UserError: a file that is no label file of this sample, or two of one annotator.
    """
    annotators: list[Annotator] = []
    files: dict[str, Path] = {}
    for path in paths:
        one = _read(path, key)
        if one.name.casefold() in files:
            raise UserError(
                f"it is by {one.name!r}, and so is {files[one.name.casefold()]}",
                where=str(path),
                mend="Give one file for each annotator; a CSV file's name is its annotator",
            )
        files[one.name.casefold()] = path
        annotators.append(one)
    return annotators


def majority(annotators: Sequence[Annotator], identity: str, column: Condition) -> Majority:
    """What more annotators said than its opposite; those who were unsure do not vote.

    Each annotator's own joint answer votes on the joint one.
    """
    votes = Counter(one.vote(identity, column) for one in annotators)
    if votes["yes"] != votes["no"]:
        return "yes" if votes["yes"] > votes["no"] else "no"
    if votes["yes"]:
        return "tied"
    return "unsure" if votes["unsure"] else "missing"


def _word(answer: bool | None) -> Vote:
    return "unsure" if answer is None else "yes" if answer else "no"


def _read(path: Path, key: Key) -> Annotator:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(path)) from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError("not UTF-8", where=str(path), mend="Save it as CSV UTF-8") from None
    sheet = path.suffix.lower() in {".csv", ".tsv", ".txt"}
    name, rows = (path.stem, _sheet(text, path, key)) if sheet else _form(text, path, key)
    if not name.strip():
        raise UserError("it names no annotator", where=str(path))
    known = {row.id for row in key.rows}
    answers: dict[str, Mapping[Dimension, bool | None]] = {}
    for where, row in rows:
        identity = row.get("id")
        if not isinstance(identity, str) or identity not in known:
            raise UserError(f"{identity!r} is not in the sample", where=where)
        if identity in answers:
            raise UserError(f"{identity!r} is labelled twice", where=where)
        if not isinstance(row.get("note", ""), str):
            raise UserError("'note' must be a text", where=where)
        answers[identity] = _answers(row, where)
    return Annotator(name.strip(), answers)


def _form(text: str, path: Path, key: Key) -> tuple[str, Iterator[tuple[str, Mapping[str, Any]]]]:
    """Annotator and rows of a file that the form saved."""
    try:
        table = read_json(text)
    except ValueError as error:
        raise UserError(f"not valid JSON: {error}", where=str(path)) from None
    if not isinstance(table, dict) or table.get("format") != FORMAT:
        raise UserError(
            f"it is no label file ('format' must be {FORMAT!r})",
            where=str(path),
            mend="Give what the form saved, or a .csv file",
        )
    _refuse_unknown(table, {"format", "audit", "annotator", "labels"}, str(path))
    _refuse_foreign(table.get("audit"), key, str(path))
    name, labels = table.get("annotator"), table.get("labels")
    if not isinstance(name, str) or not isinstance(labels, list):
        raise UserError("'annotator' must be a text and 'labels' a list", where=str(path))

    def rows() -> Iterator[tuple[str, Mapping[str, Any]]]:
        for number, row in enumerate(labels, start=1):
            where = f"{path} label {number}"
            if not isinstance(row, dict):
                raise UserError("a label must be an object", where=where)
            _refuse_unknown(row, _JSON_FIELDS, where)
            yield where, row

    return name, rows()


def _sheet(text: str, path: Path, key: Key) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of a spreadsheet; only the columns that matter have to be there still."""
    head = text.partition("\n")[0]
    mark = max(",;\t", key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
    try:
        missing = _SHEET_NEEDED - set(reader.fieldnames or ())
        if missing:
            raise UserError(f"it has no column {sorted(missing)[0]!r}", where=str(path))
        _refuse_unknown(dict.fromkeys(reader.fieldnames or ()), set(SHEET_COLUMNS), str(path))
        for row in reader:
            where = f"{path} line {reader.line_num}"
            if None in row:
                raise UserError("it has more cells than columns", where=where)
            if not any(row.values()):
                continue
            _refuse_foreign(row["audit"], key, where)
            yield where, row
    except csv.Error as error:
        raise UserError(f"not valid CSV: {error}", where=str(path)) from None


def _refuse_foreign(audit: object, key: Key, where: str) -> None:
    if audit != key.audit:
        raise UserError(
            f"it is about the audit {audit!r}, and the key is of {key.audit!r}",
            where=where,
            mend="Name the audit folder it belongs to: --audit DIR",
        )


def _refuse_unknown(table: Mapping[str, object], known: set[str], where: str) -> None:
    unknown = sorted(set(table) - known)
    if unknown:
        raise UserError(f"unknown field {unknown[0]!r}", where=where)


def _answers(row: Mapping[str, Any], where: str) -> dict[Dimension, bool | None]:
    answers: dict[Dimension, bool | None] = {}
    for dimension in DIMENSIONS:
        given = row.get(dimension)
        word = given.strip().lower() if isinstance(given, str) else given
        if word is None or word == "":
            continue
        if not isinstance(word, str) or word not in ANSWERS:
            raise UserError(
                f"{dimension!r} holds {given!r}", where=where, mend="Known: yes, no, unsure"
            )
        answers[dimension] = ANSWERS[word]
    return answers
