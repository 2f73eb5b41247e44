"""YAML of others: read by a safe loader with limits, or refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from misalign_bench.config_file import DEEPEST, LARGEST, MOST_VALUES, load, read_yaml
from misalign_bench.errors import UserError

pytestmark = pytest.mark.attack

BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(code)}: &{chr(code)} [{','.join(['*' + chr(code - 1)] * 10)}]\n"
    for code in range(ord("b"), ord("j"))
)
ROLES = "source: {path: a.csv}\nroles: {classifier: simulated/classifier, generators: [%s]}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, f"more than {MOST_VALUES:,} values"),
        (
            "a: &a [" + "1," * 500 + "]\nb: [" + "*a," * 101 + "]",
            f"more than {MOST_VALUES:,} values",
        ),
        ("[" * 100_000, f"nested more than {DEEPEST} deep"),
        ("{a: " * 100_000, f"nested more than {DEEPEST} deep"),
        ("#" * (LARGEST + 1), f"longer than {LARGEST:,} bytes"),
        ("&x {a: *x}", "recursive"),
        ("seed: 1\nseed: 2", "the key 'seed' stands twice"),
        ("? [a]\n: 1", "a key of a table is a list or a table"),
        ("seed: 2024-13-45", "month must be in 1..12"),
        ("seed: " + "9" * 5_000, "not valid YAML"),
        ("seed: 0b_", "not valid YAML"),
        ("seed: !!timestamp x", "not valid YAML"),
        ("seed: !!bool x", "not valid YAML"),
        ("seed: !!int ''", "not valid YAML"),
        ("x: !!python/object/apply:os.system ['touch ran']", "could not determine a constructor"),
        ("x: !!python/name:os.system", "could not determine a constructor"),
        ("a: 1\n---\nb: 2", "single document"),
        ("a: \x07", "special characters are not allowed"),
        (ROLES % "3", "roles.generators.0: Input should be"),
        (ROLES % "true", "roles.generators.0: Input should be"),
        (ROLES % "{1: 2}", "roles.generators.0"),
        (ROLES % "[a, b]", "roles.generators.0: Input should be"),
        ("classify: {cascade: [1]}", "classify.cascade: Input should be"),
        ("classify: {cascade: 1}", "classify.cascade: Input should be"),
        ("3", "a configuration is a table of settings"),
    ],
)
def test_a_hostile_configuration_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as refusal:
        load(path)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "ran").exists()


def test_a_few_aliases_are_fine() -> None:
    assert read_yaml(b"a: &a [1, 2]\nb: [*a, *a]\nc: *a") == {
        "a": [1, 2],
        "b": [[1, 2], [1, 2]],
        "c": [1, 2],
    }


def test_a_file_without_an_end_is_no_configuration() -> None:
    with pytest.raises(UserError, match="longer than"):
        load("/dev/zero")


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from("ab:-[]{}&*!?|>'\"#%@`,<=\n\t 0123_.xeE~\x85\ufeff"), max_size=60))
def test_no_yaml_ends_in_anything_but_a_value_or_a_refusal(text: str) -> None:
    try:
        value = read_yaml(text.encode())
    except (yaml.YAMLError, ValueError):
        return
    assert not callable(value)
