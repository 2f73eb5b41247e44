"""A quick yes for answers that follow the kind of schema that our questions have.

jsonschema takes a quarter of the time of a verdict that costs nothing else. What is certain by
types, names and bounds needs no more; whatever is not, a keyword of another kind included, is left
to jsonschema, which also says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}


def plainly_follows(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a value certainly follows a schema; false if jsonschema has to say.

    >>> plainly_follows({"a": 1}, {"type": "object", "properties": {"a": {"type": "integer"}}})
    True
    >>> plainly_follows(True, {"type": "integer"}), plainly_follows(3, {"multipleOf": 3})
    (False, False)
    """
    if not isinstance(schema, Mapping):
        return False
    for keyword, wanted in schema.items():
        check = _CHECKS.get(keyword)
        if check is None or not check(value, wanted, schema):
            return False
    return True


def _type(value: Any, wanted: Any, _: Mapping[str, Any]) -> bool:
    # Exactly these types: to Python a truth value is a number too.
    return isinstance(wanted, str) and type(value) in _TYPES.get(wanted, ())


def _enum(value: Any, wanted: Any, _: Mapping[str, Any]) -> bool:
    return any(type(value) is type(one) and value == one for one in wanted)


def _properties(value: Any, wanted: Any, _: Mapping[str, Any]) -> bool:
    return type(value) is dict and all(
        plainly_follows(held, wanted[name]) for name, held in value.items() if name in wanted
    )


def _required(value: Any, wanted: Any, _: Mapping[str, Any]) -> bool:
    return type(value) is dict and all(name in value for name in wanted)


def _additional(value: Any, wanted: Any, schema: Mapping[str, Any]) -> bool:
    known = schema.get("properties", {}).keys()
    return type(value) is dict and wanted is False and value.keys() <= known


def _items(value: Any, wanted: Any, _: Mapping[str, Any]) -> bool:
    return type(value) is list and all(plainly_follows(one, wanted) for one in value)


_CHECKS: dict[str, Callable[[Any, Any, Mapping[str, Any]], bool]] = {
    "type": _type,
    "enum": _enum,
    "properties": _properties,
    "required": _required,
    "additionalProperties": _additional,
    "items": _items,
    "minItems": lambda value, least, _: type(value) is list and len(value) >= least,
    "maxItems": lambda value, most, _: type(value) is list and len(value) <= most,
    "maxLength": lambda value, most, _: type(value) is str and len(value) <= most,
    "minimum": lambda value, least, _: type(value) in (int, float) and value >= least,
    "maximum": lambda value, most, _: type(value) in (int, float) and value <= most,
}
