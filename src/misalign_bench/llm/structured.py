"""Read a JSON object out of a model's answer, and repair only what has one possible meaning.

Strict JSON is taken as it is. Otherwise one object may stand in prose or a code fence, after a
reasoning block, and may have trailing commas. Two different objects, duplicate keys, an object
inside a list or an unclosed one are no answer: the first match never wins by being first, because
the text that is judged can put a verdict of its own into the judge's answer.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from misalign_bench.llm.plain_schema import plainly_follows
from misalign_bench.records import Reason, Unscored

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

_STRING_OR_COMMA = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])')
_END_OF_REASONING = "</think>"


def parse(text: str, schema: Mapping[str, Any]) -> dict[str, Any] | Unscored:
    """The object that an answer holds, checked against its schema.

    >>> parse('Sure: ```json {"flagged": true,} ```', {"required": ["flagged"]})
    {'flagged': True}
    >>> parse('{"flagged": true} or {"flagged": false}', {}).detail
    '2 different objects'

    Returns:
        The object, ``Unscored(PARSE)`` if there is not exactly one, or ``Unscored(SCHEMA)`` if it
        does not follow the schema.
    """
    try:
        value = _read(text)
        if not isinstance(value, dict):
            return Unscored(
                Reason.SCHEMA, f"a {type(value).__name__} where an object was asked for"
            )
        if plainly_follows(value, schema):
            return value
        problem = next(_validator(json.dumps(schema, sort_keys=True)).iter_errors(value), None)
        if problem is not None:
            return Unscored(Reason.SCHEMA, f"{problem.json_path}: {problem.message}"[:200])
    except _Unreadable as error:
        return Unscored(Reason.PARSE, str(error))
    except RecursionError:
        # What could just be read may be too deep for what is done with it.
        return Unscored(Reason.PARSE, "nested too deeply")
    return value


class _Unreadable(ValueError):
    """The text does not hold exactly one object."""


def _read(text: str) -> Any:
    try:
        return _strict(text)
    except _Unreadable as error:
        first = error
    if text.count(_END_OF_REASONING) == 1:
        text = text.partition(_END_OF_REASONING)[2]
    spans = _objects(text)
    if not spans:
        raise first
    values = [_strict(_without_trailing_commas(span)) for span in spans]
    # Compared as text, because to Python 1 and true are equal.
    if len({json.dumps(value, sort_keys=True) for value in values}) > 1:
        raise _Unreadable(f"{len(values)} different objects")
    return values[0]


def _objects(text: str) -> list[str]:
    """Every top-level ``{…}`` of the text; braces inside JSON strings do not count."""
    spans = []
    end, start = 0, text.find("{")
    while start >= 0:
        if text[end:start].rstrip().endswith("["):
            raise _Unreadable("an object inside a list")
        end = _end_of_object(text, start)
        spans.append(text[start:end])
        start = text.find("{", end)
    return spans


def _end_of_object(text: str, start: int) -> int:
    depth, in_string, position = 0, False, start
    while position < len(text):
        character = text[position]
        if in_string:
            if character == "\\":
                position += 1
            in_string = character != '"'
        elif character == '"':
            in_string = True
        elif character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return position + 1
        position += 1
    raise _Unreadable("an object that is not closed")


def _without_trailing_commas(text: str) -> str:
    return _STRING_OR_COMMA.sub(lambda match: match.group(1) or "", text)


def _strict(text: str) -> Any:
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except _Unreadable:
        raise
    except UnicodeEncodeError:
        raise _Unreadable("half a surrogate pair") from None
    except RecursionError:
        raise _Unreadable("nested too deeply") from None
    except ValueError as error:
        raise _Unreadable(f"not JSON: {error}"[:200]) from None
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise _Unreadable("a key stands twice in one object")
    return table


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise _Unreadable(f"{digits[:20]} is no finite number")
    return number


def _refuse_constant(name: str) -> float:
    raise _Unreadable(f"{name} is no JSON")


@functools.lru_cache(maxsize=64)
def _validator(schema: str) -> Validator:
    from jsonschema.validators import validator_for

    body = json.loads(schema)
    return validator_for(body)(body)
