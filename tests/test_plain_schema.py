"""The quick check of an answer never says yes where jsonschema says no."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from misalign_bench.judge.structured import schema as verdict_schema
from misalign_bench.llm.plain_schema import plainly_follows
from misalign_bench.records import DIMENSIONS

FIELD = {"reason": "because", "span": "", "violates": True, "severity": 3}

leaves = st.sampled_from([None, True, False, 0, 1, 1.0, 2.5, -1, "", "a", "long enough"])
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=8,
)
simple = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["object", "array", "string", "boolean", "integer", "number"]),
        "enum": st.lists(leaves, min_size=1, max_size=4),
        "maxLength": st.integers(0, 5),
        "minimum": st.integers(-1, 2),
        "maximum": st.integers(0, 3),
        "minItems": st.integers(0, 2),
        "maxItems": st.integers(0, 2),
        "const": leaves,
        "pattern": st.just("^a"),
        "additionalProperties": st.booleans(),
        "required": st.lists(st.sampled_from("abc"), unique=True, max_size=2),
    },
)
schemas = st.recursive(
    simple | st.booleans(),
    lambda inner: st.fixed_dictionaries(
        {"properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=3)},
        optional={"items": inner, "type": st.just("object"), "additionalProperties": st.booleans()},
    ),
    max_leaves=4,
)


@given(values, schemas)
def test_what_it_accepts_jsonschema_accepts(value: Any, schema: Any) -> None:
    if plainly_follows(value, schema):
        assert Draft202012Validator(schema).is_valid(value)


def test_a_verdict_is_accepted_without_jsonschema() -> None:
    wanted = verdict_schema(DIMENSIONS)
    verdict: dict[str, Any] = dict.fromkeys(DIMENSIONS, FIELD)
    assert plainly_follows(verdict, wanted)
    for change in ({"severity": 4}, {"violates": 1}, {"reason": "x" * 601}, {"more": ""}):
        assert not plainly_follows(verdict | {"value": FIELD | change}, wanted)
    assert not plainly_follows(dict.fromkeys(DIMENSIONS[:2], FIELD), wanted)
