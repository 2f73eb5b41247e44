"""What a row of benchmark data means (contract, sections 2 and 5).

Two forms:

- one response: ``prompt, response, misaligned`` (true or false); optional ``violated``;
- two responses: ``prompt, aligned, misaligned`` (texts); optional ``aligned_violated`` and
  ``misaligned_violated`` (or ``violated`` for the latter).

Optional in both: ``id, prompt_id, cluster_id, generator, split``; ``active`` (dimensions) and
``domains`` (``dimension/name``) of the prompt; ``intended`` (dimensions, or domains) and
``intended_domains``: what the misaligned response was asked to violate.

``violated`` says what a response violates: a table with true, false or null (unknown) by
dimension, or the list of all violated dimensions. Without it a misaligned response is unknown in
every dimension, an aligned one violates none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, cast

from misalign_bench.records import DIMENSIONS, KINDS, Dimension, Item
from misalign_bench.suites.files import Row

COLUMNS = frozenset(
    {
        *("id", "prompt_id", "cluster_id", "prompt", "response", "aligned", "misaligned"),
        *("active", "domains", "intended", "intended_domains", "generator", "split"),
        *("violated", "aligned_violated", "misaligned_violated", "evaluator", "simulated"),
    }
)


def items_of(row: Row) -> list[Item]:
    """The one or two items of a row; ``item_id`` and ``cluster_id`` are empty if not given.

    Raises:
        UserError: a missing, mistyped or contradictory field.
    """
    if "response" in row:
        misaligned = row.boolean("misaligned")
        response, violated = row.text("response"), _violated(row, "violated", misaligned)
        return [_item(row, row.text("id", default=""), response, misaligned, violated)]
    if "aligned" not in row:
        raise row.broken("needs 'prompt, response, misaligned' or 'prompt, aligned, misaligned'")
    return [_twin(row, kind) for kind in KINDS]


def _twin(row: Row, kind: str) -> Item:
    misaligned = kind == "misaligned"
    column = f"{kind}_violated"
    if misaligned and column not in row:
        column = "violated"
    stem = row.text("id", default="")
    if not stem and "prompt_id" in row and "generator" in row:
        stem = f"{row.text('prompt_id')}:{row.text('generator')}"
    name = f"{stem}:{kind}" if stem else ""
    return _item(row, name, row.text(kind), misaligned, _violated(row, column, misaligned))


def _item(
    row: Row, name: str, response: str, misaligned: bool, violated: dict[Dimension, bool | None]
) -> Item:
    prompt = row.text("prompt")
    domains = _domains(row, "domains")
    given = row.texts("intended")
    intended = [one for one in given if "/" not in one]
    intended_domains = [one for one in given if "/" in one]
    intended_domains += [one for one in _domains(row, "intended_domains") if one not in given]
    for one in intended_domains:
        _check_domain(row, "intended", one)
    return Item(
        item_id=name,
        prompt_id=row.text("prompt_id", default="")
        or hashlib.sha256(prompt.encode()).hexdigest()[:16],
        cluster_id=row.text("cluster_id", default=""),
        prompt=prompt,
        response=response,
        misaligned=misaligned,
        active=_dimensions(row, "active", (*row.texts("active"), *map(_dimension, domains))),
        intended=_dimensions(row, "intended", (*intended, *map(_dimension, intended_domains))),
        intended_domains=tuple(intended_domains),
        violated=violated,
        domains=domains,
        generator=row.text("generator", default=""),
        split=row.text("split", default=""),
    )


def _violated(row: Row, column: str, misaligned: bool) -> dict[Dimension, bool | None]:
    given = row.fields.get(column)
    otherwise = None if misaligned else False
    violated: dict[Dimension, bool | None] = dict.fromkeys(DIMENSIONS, otherwise)
    if isinstance(given, list):
        held = _dimensions(row, column, row.texts(column))
        violated = {dimension: dimension in held for dimension in DIMENSIONS}
    elif isinstance(given, dict):
        _check_table(row, column, given)
        violated |= cast("dict[Dimension, bool | None]", given)
    elif given is not None:
        raise row.broken(f"{column!r} must be a table or a list of dimensions")
    if not misaligned and True in violated.values():
        raise row.broken(f"{column!r} says that an aligned response violates a dimension")
    if misaligned and set(violated.values()) == {False}:
        raise row.broken(f"{column!r} says that a misaligned response violates no dimension")
    return violated


def _check_table(row: Row, column: str, given: Mapping[str, Any]) -> None:
    for dimension, value in given.items():
        _dimensions(row, column, (dimension,))
        if value is not None and not isinstance(value, bool):
            raise row.broken(f"{column!r} must hold true, false or null")


def _dimensions(row: Row, column: str, names: tuple[str, ...]) -> tuple[Dimension, ...]:
    """Known dimensions, in the fixed order."""
    for name in names:
        if name not in DIMENSIONS:
            known = ", ".join(DIMENSIONS)
            raise row.broken(f"{column!r} holds {name!r}, which is no dimension ({known})")
    return tuple(dimension for dimension in DIMENSIONS if dimension in names)


def _domains(row: Row, column: str) -> tuple[str, ...]:
    domains = row.texts(column)
    for name in domains:
        _check_domain(row, column, name)
    return domains


def _check_domain(row: Row, column: str, name: str) -> None:
    dimension, _, rest = name.partition("/")
    if dimension not in DIMENSIONS or not rest:
        raise row.broken(f"{column!r} holds {name!r}; a domain is written dimension/name")


def _dimension(domain: str) -> str:
    return domain.partition("/")[0]
