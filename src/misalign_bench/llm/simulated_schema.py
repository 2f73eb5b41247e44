"""Structured answers of simulated models: a value that follows the schema of the request.

What stands in the leaves is the behaviour's business (``behaviours``); here is only the shape.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from misalign_bench.llm.model import Request

Leaf = Callable[[tuple[str, ...], Mapping[str, Any]], Any]
"""The value of a leaf, from the names on the path to it and its schema."""


def answer(request: Request, leaf: Leaf, holds: Callable[[str], bool] | None = None) -> str:
    """The answer to the request's schema as JSON; without one, a single value as text."""
    if request.schema is None:
        return str(leaf((), {"type": "string"}))
    return json.dumps(_fill(request.schema, (), leaf, holds))


def _fill(
    schema: Mapping[str, Any],
    path: tuple[str, ...],
    leaf: Leaf,
    holds: Callable[[str], bool] | None,
) -> Any:
    """A value that follows the schema; arrays over an enumeration list what ``holds``."""
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return _fill(schema[choice][0], path, leaf, holds)
    if "const" in schema:
        return schema["const"]
    if schema.get("type") == "object" or "properties" in schema:
        parts = schema.get("properties", {})
        return {name: _fill(part, (*path, name), leaf, holds) for name, part in parts.items()}
    if schema.get("type") != "array":
        return leaf(path, schema)
    items, least = schema.get("items", {"type": "string"}), int(schema.get("minItems", 0))
    named = _enumeration(items)
    if holds is not None and named is not None:
        field, values = named
        chosen = [value for value in values if holds(str(value))]
        return [
            {**_fill(items, (*path, value), leaf, holds), field: value} if field else value
            for value in chosen
        ]
    count = max(least, min(50, int(schema.get("maxItems", 5)))) if holds is None else least
    return [_fill(items, (*path, str(number)), leaf, holds) for number in range(count)]


def _enumeration(items: Mapping[str, Any]) -> tuple[str, list[str]] | None:
    """The enumeration that array items are drawn from, and the field that holds it."""
    if "enum" in items:
        return "", items["enum"]
    for field, part in items.get("properties", {}).items():
        if "enum" in part:
            return field, part["enum"]
    return None
