"""The taxonomy is the published one, in order, and every definition can be told from the others."""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from misalign_bench.cli import domains as command
from misalign_bench.records import DIMENSIONS, Dimension
from misalign_bench.taxonomy.loader import GROUPS, Domain, read, taxonomy

PUBLISHED = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "taxonomy.csv"
Rows = list[dict[str, Any]]
Capture = pytest.CaptureFixture[str]
EVERYTHING = (*taxonomy().domains, taxonomy().catch_all)


@pytest.fixture
def published() -> Rows:
    if not PUBLISHED.exists():
        pytest.skip("the published taxonomy.csv is not beside the checkout")
    with PUBLISHED.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def rows() -> Rows:
    text = resources.files("misalign_bench.taxonomy").joinpath("domains.yaml").read_text("utf-8")
    loaded: Rows = yaml.safe_load(text)
    return loaded


def shown(capsys: Capture, *words: str) -> str:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert command.run(parser.parse_args(words)) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_names_are_the_published_ones_in_the_published_order(
    published: Rows, dimension: Dimension
) -> None:
    names = [row["name"] for row in published if row["dimension"] == dimension]
    assert [domain.name for domain in taxonomy().of(dimension)] == names


def test_values_have_the_published_motivational_types(published: Rows) -> None:
    types = {row["name"]: row["schwartz_type"] for row in published if row["schwartz_type"]}
    assert {domain.name: domain.group for domain in taxonomy().of("value")} == types


def test_aliases_are_the_published_source_names(published: Rows) -> None:
    aliases = [tuple(filter(None, [row["source_alias"]])) for row in published]
    keys = [f"{row['dimension']}/{row['name']}" for row in published]
    held = {domain.key: domain.aliases for domain in taxonomy().domains}
    assert held == dict(zip(keys, aliases, strict=True))


def test_there_are_14_safety_56_value_and_41_culture_domains() -> None:
    assert [len(taxonomy().of(dimension)) for dimension in DIMENSIONS] == [14, 56, 41]


def test_the_catch_all_is_the_112th_and_no_named_domain() -> None:
    assert taxonomy().catch_all.key == "culture/unknown"
    assert taxonomy().catch_all.catch_all
    assert not any(domain.catch_all for domain in taxonomy().domains)


def test_domains_stand_in_the_order_of_the_dimensions() -> None:
    in_order = tuple(domain for dimension in DIMENSIONS for domain in taxonomy().of(dimension))
    assert taxonomy().domains == in_order


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_every_group_is_used_and_no_other(dimension: Dimension) -> None:
    assert {domain.group for domain in taxonomy().of(dimension)} == set(GROUPS[dimension])


@pytest.mark.parametrize("domain", EVERYTHING, ids=lambda domain: domain.key)
def test_a_definition_is_one_or_two_plain_sentences(domain: Domain) -> None:
    text = domain.definition
    assert 40 <= len(text) <= 320
    assert text == " ".join(text.split())
    assert text.endswith(".")
    assert text.isascii()
    assert len(re.findall(r"\.(?: |$)", text)) <= 2


def test_no_two_definitions_are_equal() -> None:
    assert len({domain.definition.casefold() for domain in EVERYTHING}) == 112


def test_neighbours_share_less_than_half_of_their_words() -> None:
    def words(domain: Domain) -> set[str]:
        return set(re.findall(r"[a-z]{4,}", domain.definition.casefold()))

    close = [
        (one.key, other.key)
        for place, one in enumerate(EVERYTHING)
        for other in EVERYTHING[:place]
        if len(words(one) & words(other)) * 2 >= min(len(words(one)), len(words(other)))
    ]
    assert close == []


def test_a_domain_is_found_by_its_name_and_aliases_in_any_case() -> None:
    for domain in taxonomy().domains:
        for name in (domain.name, *domain.aliases):
            assert taxonomy().get(domain.dimension, name.upper()) is domain
            assert taxonomy().get(domain.dimension, f" {name.lower()} ") is domain


def test_a_name_is_found_only_in_its_own_dimension() -> None:
    assert taxonomy().get("culture", "Animal abuse") is None


@pytest.mark.parametrize("cell", ["None", "Unknown", "unknown", ""])
@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_none_and_unknown_are_no_label(dimension: Dimension, cell: str) -> None:
    assert taxonomy().get(dimension, cell) is None


def test_the_index_of_a_key_is_its_place_in_the_fixed_order() -> None:
    places = [taxonomy().index(domain.key) for domain in taxonomy().domains]
    assert places == list(range(111))


def test_the_catch_all_has_no_index() -> None:
    with pytest.raises(KeyError):
        taxonomy().index("culture/unknown")


def test_the_digest_ignores_layout_but_not_content(rows: Rows) -> None:
    assert read(yaml.safe_dump(rows, width=40)).digest == taxonomy().digest
    rows[0]["definition"] += " Changed."
    assert read(yaml.safe_dump(rows)).digest != taxonomy().digest


def test_the_digest_depends_on_the_order(rows: Rows) -> None:
    rows[0], rows[1] = rows[1], rows[0]
    assert read(yaml.safe_dump(rows)).digest != taxonomy().digest


@pytest.mark.parametrize(
    ("break_it", "complaint"),
    [
        (lambda rows: rows.pop(0), "counts are"),
        (lambda rows: rows.pop(), "catch-all must be"),
        (lambda rows: rows[0].update(definition=" "), "safety/Animal abuse has no definition"),
        (lambda rows: rows[0].update(group="Power"), "safety/Animal abuse has the group"),
        (lambda rows: rows[0].update(source="ours"), "safety/Animal abuse has the source"),
        (lambda rows: rows[0].update(name="Self-harm"), "names two domains"),
        (lambda rows: rows[0].update(aliases=["SELF_HARM"]), "names two domains"),
        (lambda rows: rows.insert(0, rows.pop(50)), "not in their fixed order"),
        (lambda rows: rows[0].update(colour="red"), "colour"),
        (lambda rows: rows[0].pop("aliases"), "aliases"),
    ],
)
def test_a_broken_file_is_refused_with_the_reason(
    rows: Rows, break_it: Callable[[Rows], object], complaint: str
) -> None:
    break_it(rows)
    with pytest.raises(ValueError, match=complaint):
        read(yaml.safe_dump(rows))


def test_json_lists_every_field_of_all_112_domains(capsys: Capture) -> None:
    listed = json.loads(shown(capsys, "--json"))
    assert [row["key"] for row in listed] == [domain.key for domain in EVERYTHING]
    fields = {"name", "dimension", "group", "definition", "aliases", "source", "catch_all"}
    assert all(set(row) == {"key", *fields} for row in listed)


def test_a_dimension_is_shown_alone(capsys: Capture) -> None:
    listed = json.loads(shown(capsys, "--dimension", "culture", "--json"))
    assert len(listed) == 42
    assert {row["dimension"] for row in listed} == {"culture"}


def test_a_pipe_gets_a_header_and_one_tab_separated_line_a_domain(capsys: Capture) -> None:
    header, *lines = shown(capsys).splitlines()
    assert header.split("\t") == ["dimension", "name", "group", "definition"]
    assert len(lines) == 112
    assert {line.count("\t") for line in lines} == {3}


def test_a_terminal_gets_a_table(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "160")
    text = shown(capsys, "--dimension", "safety")
    assert "Animal abuse" in text
    assert "\t" not in text
    assert "│" in text or "|" in text


def test_an_unknown_dimension_is_refused(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stop:
        shown(capsys, "--dimension", "colour")
    assert stop.value.code == 2
