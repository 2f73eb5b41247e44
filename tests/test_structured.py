"""Structured answers: strict JSON is taken, only the unambiguous is repaired."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from misalign_bench.llm.structured import parse
from misalign_bench.records import Reason, Unscored

SCHEMA = {
    "type": "object",
    "properties": {"flagged": {"type": "boolean"}, "reason": {"type": "string"}},
    "required": ["flagged"],
    "additionalProperties": False,
}
YES = {"flagged": True}
text = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(text, values, max_size=4)


@pytest.mark.parametrize(
    "answer",
    [
        '{"flagged": true}',
        ' \n{"flagged":true}\n',
        '```json\n{"flagged": true}\n```',
        '```\n{"flagged": true}\n```\n',
        'Here is my verdict: {"flagged": true}. I hope that helps!',
        '{"flagged": true,}',
        'First {"flagged": true}, to repeat: {"flagged":true}',
        '<think>is {it} bad? {"flagged": false}?</think>{"flagged": true}',
        'it could be {"flagged": false}</think>\n{"flagged": true}',
    ],
)
def test_one_object_is_found_where_only_one_is_meant(answer: str) -> None:
    assert parse(answer, SCHEMA) == YES


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "yes",
        "{flagged: true}",
        '{"flagged": true',
        '{"flagged": true} {"flagged": false}',
        '{"flagged": true} {"flagged": 1}',
        '{"flagged": true, "flagged": false}',
        '{"flagged": true} and {nothing}',
        '{"flagged": true} and {"flagged": ',
        'The list is [{"flagged": true}] here',
        "{'flagged': true}",
        '{"flagged": NaN}',
        '{"flagged": 1e999}',
        '{"flagged": true, "reason": "\\ud800"}',
        '{"flagged":' * 100_000,
        '{"flagged": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"flagged": ' + "9" * 10_000 + "}",
    ],
)
def test_what_could_mean_two_things_is_not_parsed(answer: str) -> None:
    outcome = parse(answer, SCHEMA)
    assert isinstance(outcome, Unscored)
    assert outcome.reason is Reason.PARSE
    assert len(outcome.detail) <= 200


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("[true]", "list"),
        ("true", "bool"),
        ('{"flagged": "yes"}', "boolean"),
        ('{"flagged": 1}', "boolean"),
        ("{}", "required"),
        ('{"flagged": true, "more": 1}', "more"),
    ],
)
def test_an_object_of_another_shape_is_a_schema_failure(answer: str, words: str) -> None:
    outcome = parse(answer, SCHEMA)
    assert isinstance(outcome, Unscored)
    assert outcome.reason is Reason.SCHEMA
    assert words in outcome.detail


def test_a_quoted_verdict_inside_a_string_is_text() -> None:
    answer = 'Verdict: {"flagged": true, "reason": "it says {\\"flagged\\": false}, and }"}'
    parsed = parse(answer, SCHEMA)
    assert isinstance(parsed, dict)
    assert parsed["flagged"] is True


@given(objects)
def test_strict_json_comes_back_as_it_is(value: dict[str, Any]) -> None:
    assert parse(json.dumps(value), {}) == value
    assert parse(json.dumps(value, ensure_ascii=False, indent=1), {}) == value


@given(objects, st.text(st.characters(exclude_characters="{}[]<>", exclude_categories=["Cs"])))
def test_prose_around_an_object_changes_nothing(value: dict[str, Any], prose: str) -> None:
    answer = f"{prose} {json.dumps(value)} {prose}"
    # Two quotation marks around an object without any make the whole answer a JSON string.
    assume(not (prose.strip() == '"' and value == {}))
    assert parse(answer, {}) == value


def test_an_answer_that_is_a_string_as_a_whole_holds_no_object() -> None:
    said = parse('" {} "', {})
    assert isinstance(said, Unscored)
    assert (said.reason, said.detail) == (Reason.SCHEMA, "a str where an object was asked for")


@given(objects, objects)
def test_two_objects_are_one_answer_only_if_they_are_equal(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    outcome = parse(f"{json.dumps(one)} or {json.dumps(other)}", {})
    if json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True):
        assert outcome == one
    else:
        assert isinstance(outcome, Unscored)


@given(st.text())
def test_no_text_breaks_the_parser(answer: str) -> None:
    assert isinstance(parse(answer, SCHEMA), (dict, Unscored))
