"""``results.json`` against its published schema (``results_schema.json``, JSON Schema 2020-12)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

from misalign_bench.bench.results import SCHEMA_VERSION
from misalign_bench.errors import UserError

_MOST_SHOWN = 20


def results_schema() -> dict[str, Any]:
    """The schema of the file that this version writes."""
    source = resources.files("misalign_bench.bench").joinpath("results_schema.json")
    schema: dict[str, Any] = json.loads(source.read_text(encoding="utf-8"))
    return schema


def read_results(path: Path) -> dict[str, Any]:
    """The table in the file, unchecked but for its version.

    Raises:
        UserError: it cannot be read, or another version of this package wrote it.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot be read: {error}", where=str(path)) from None
    version = table.get("schema_version") if isinstance(table, dict) else None
    if not isinstance(version, int):
        raise UserError("is no results.json: it has no schema_version", where=str(path))
    if version != SCHEMA_VERSION:
        raise UserError(
            f"has schema_version {version}; this misalign-bench checks {SCHEMA_VERSION}",
            where=str(path),
            mend="Check it with the version that wrote it",
        )
    held: dict[str, Any] = table
    return held


def problems(table: dict[str, Any]) -> Iterator[str]:
    """What the schema has against a table, one line each, at most twenty."""
    from jsonschema import Draft202012Validator

    found = Draft202012Validator(results_schema()).iter_errors(table)
    for error in islice(found, _MOST_SHOWN):
        yield f"{error.json_path}: {error.message[:200]}"


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no JSON")
