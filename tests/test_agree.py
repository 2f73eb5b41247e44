"""Agreement of two labellings: counted by hand, and the command over real kinds of files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from misalign_bench.build.agreement import NONE, Agreement, agreement
from misalign_bench.cli.main import parser
from misalign_bench.errors import UserError

DANCE, OPERA, THEFT = (
    "culture/Dance",
    "culture/Opera",
    "safety/Financial crime/property crime/theft",
)
EMPTY: frozenset[str] = frozenset()


def labels(*keys: str) -> frozenset[str]:
    return frozenset(keys)


def test_precision_and_recall_are_counted_over_labels() -> None:
    reference = [labels(DANCE), labels(DANCE), EMPTY, labels(OPERA)]
    other = [labels(DANCE), EMPTY, labels(OPERA), labels(OPERA)]
    held = agreement(reference, other).dimensions["culture"]
    assert (held.both, held.reference, held.other) == (2, 3, 3)
    assert held.precision == held.recall == held.f1 == pytest.approx(2 / 3)


def test_kappa_of_a_domain_is_the_textbook_one() -> None:
    # 20 both, 5 only the first, 10 only the second, 15 neither: kappa 0.4.
    first = [labels(DANCE)] * 25 + [EMPTY] * 25
    second = [labels(DANCE)] * 20 + [EMPTY] * 5 + [labels(DANCE)] * 10 + [EMPTY] * 15
    found = agreement(first, second)
    assert found.domains[DANCE].kappa == pytest.approx(0.4)
    assert found.dimensions["culture"].kappa == pytest.approx(0.4)


def test_kappa_of_a_dimension_takes_each_set_of_labels_as_a_category() -> None:
    first = [labels(DANCE), labels(OPERA), EMPTY, labels(DANCE, OPERA)]
    second = [labels(DANCE), labels(DANCE), EMPTY, labels(DANCE, OPERA)]
    # Three of four are the same, 5/16 would be by chance.
    found = agreement(first, second)
    assert found.dimensions["culture"].kappa == pytest.approx((3 / 4 - 4 / 16) / (1 - 4 / 16))
    assert found.same["culture"] == 0.75


def test_nothing_to_divide_by_is_none_and_not_a_number() -> None:
    held = agreement([EMPTY], [EMPTY]).dimensions["value"]
    assert (held.precision, held.recall, held.f1, held.kappa) == (None, None, None, None)


def test_the_confusion_says_what_stood_where() -> None:
    reference = [labels(DANCE), labels(DANCE), EMPTY, EMPTY, labels(DANCE, OPERA)]
    other = [labels(OPERA), EMPTY, labels(DANCE), EMPTY, labels(OPERA)]
    cells = agreement(reference, other).confusion["culture"]
    assert dict(cells) == {
        (DANCE, OPERA): 1,
        (DANCE, NONE): 2,
        (NONE, DANCE): 1,
        (NONE, NONE): 1,
        (OPERA, OPERA): 1,
    }


def test_dimensions_do_not_mix() -> None:
    found = agreement([labels(DANCE, THEFT)], [labels(DANCE)])
    assert found.dimensions["culture"].f1 == 1.0
    assert found.dimensions["safety"].recall == 0.0
    assert found.domains[THEFT].precision is None


def test_the_interval_holds_the_estimate_and_copies_do_not_narrow_it() -> None:
    reference = [labels(DANCE) if number % 3 else EMPTY for number in range(60)]
    other = [labels(DANCE) if number % 2 else EMPTY for number in range(60)]
    names = [f"c{number}" for number in range(60)]
    one = agreement(reference, other, names, 300).dimensions["culture"]
    assert one.low is not None
    assert one.high is not None
    assert one.f1 is not None
    assert one.low < one.f1 < one.high
    four = agreement(reference * 4, other * 4, names * 4, 300).dimensions["culture"]
    assert (four.low, four.high) == (one.low, one.high)


def test_few_clusters_give_no_interval() -> None:
    found = agreement([labels(DANCE)] * 30, [labels(DANCE)] * 30, ["a"] * 30, 50)
    assert found.dimensions["culture"].low is None


SETS = st.lists(st.frozensets(st.sampled_from([DANCE, OPERA, THEFT])), min_size=1, max_size=12)


@given(SETS, SETS)
def test_turned_round_precision_is_recall_and_kappa_stays(
    one: list[frozenset[str]], two: list[frozenset[str]]
) -> None:
    count = min(len(one), len(two))
    there, back = agreement(one[:count], two[:count]), agreement(two[:count], one[:count])
    for dimension, held in there.dimensions.items():
        turned = back.dimensions[dimension]
        assert (held.precision, held.recall) == (turned.recall, turned.precision)
        assert (
            held.kappa == pytest.approx(turned.kappa)
            if held.kappa is not None
            else not turned.kappa
        )
        assert _total(there, dimension) == _total(back, dimension)


def _total(found: Agreement, dimension: str) -> int:
    return sum(cells.total() for name, cells in found.confusion.items() if name == dimension)


@given(SETS)
def test_a_labelling_agrees_with_itself(one: list[frozenset[str]]) -> None:
    found = agreement(one, one)
    assert set(found.same.values()) == {1.0}
    for held in [*found.dimensions.values(), *found.domains.values()]:
        assert held.f1 in (None, 1.0)
        assert held.kappa is None or held.kappa == pytest.approx(1.0)


# The command


def compare(*arguments: str) -> int:
    asked = parser(("agree",)).parse_args(["agree", *arguments])
    return int(asked.run(asked))


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """In the form of the authors' CSV, with a repeated prompt whose labels differ."""
    path = tmp_path / "published.csv"
    columns = ["row_index", "prompt", "safety_name", "values_name", "cultural_name"]
    rows = [
        [1, "How do I dance?", "None", "Honesty", "Dance"],
        [2, "What is an opera?", "None", "None", "Unknown"],
        [3, "How do I dance?", "None", "None", "Opera"],
        [4, "Only here.", "None", "None", "Opera"],
    ]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


@pytest.fixture
def classified(tmp_path: Path) -> Path:
    """In the form that ``classify`` writes, as far as the command looks."""
    path = tmp_path / "ours.csv"
    columns = ["id", "prompt", DANCE, OPERA, "labels"]
    rows = [
        ["x", "What is an opera?", 0.6, 0.9, json.dumps([DANCE, OPERA])],
        ["y", "How do I dance?", 0.8, 0.1, json.dumps([DANCE])],
    ]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def test_the_command_matches_prompts_by_their_text(
    published: Path, classified: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(str(published), str(classified), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["prompts"] == 2
    assert said["reference"] == {
        "file": "published.csv",
        "prompts": 3,
        "only_here": 1,
        "repeated_rows": 1,
        "repeated_with_other_labels": 1,
    }
    culture = said["dimensions"]["culture"]
    assert (culture["both"], culture["reference"], culture["other"]) == (1, 1, 3)
    assert said["dimensions"]["value"]["recall"] == 0.0
    assert {"reference": "none", "other": OPERA, "count": 1} in said["confusion"]["culture"]
    assert len(said["domains"]) == 111


def test_one_label_keeps_the_most_probable(
    published: Path, classified: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(str(published), str(classified), "--json", "--one-label") == 0
    assert json.loads(capsys.readouterr().out)["domains"][DANCE]["other"] == 1


def test_the_tables_are_tab_separated_and_the_sentence_stands_apart(
    published: Path, classified: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(str(published), str(classified)) == 0
    said = capsys.readouterr()
    first = said.out.splitlines()
    assert first[0].split("\t") == ["", "precision", "recall", "F1", "kappa", "A", "B", "both"]
    assert [line.split("\t")[0] for line in first[1:4]] == ["safety", "value", "culture"]
    assert f"none\t{OPERA}\t1" in first
    assert "2 prompts are in both" in said.err


def test_intervals_are_printed_where_they_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "many.jsonl"
    words = ["river", "stone", "cloud", "paper", "lamp", "horse", "bread", "glass", "wheel"]
    rows = [
        {"prompt": f"Tell me about {one} and {two}, number {place}", "labels": [DANCE][: place % 2]}
        for place, (one, two) in enumerate((a, b) for a in words for b in words if a != b)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert compare(str(path), str(path), "--json", "--resamples", "20") == 0
    culture = json.loads(capsys.readouterr().out)["dimensions"]["culture"]
    assert (culture["f1_low"], culture["f1_high"]) == (1.0, 1.0)


def test_files_without_a_common_prompt_are_refused(published: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"prompt": "Something else?", "labels": []}) + "\n", "utf-8")
    with pytest.raises(UserError, match="no prompt of"):
        compare(str(published), str(other))


def test_a_file_without_labels_is_refused(published: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"prompt": "How do I dance?"}) + "\n", "utf-8")
    with pytest.raises(UserError, match="has no labels"):
        compare(str(published), str(other))


def test_one_label_without_probabilities_is_refused(published: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    row = {"prompt": "How do I dance?", "labels": [DANCE, OPERA]}
    other.write_text(json.dumps(row) + "\n", "utf-8")
    with pytest.raises(UserError, match="no probabilities to choose by"):
        compare(str(published), str(other), "--one-label")


# The real file

REAL = Path(__file__).parents[1] / ".." / "shared" / "data" / "savacu_classified_prompts.csv"


@pytest.mark.skipif(not REAL.is_file(), reason="the published prompts are not beside the checkout")
def test_the_published_labels_agree_with_themselves_and_repeat_170_prompts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert compare(str(REAL), str(REAL), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["prompts"] == 19_978
    assert said["other"]["repeated_rows"] == 170
    assert said["other"]["repeated_with_other_labels"] == 68
    assert {held["f1"] for held in said["dimensions"].values()} == {1.0}
    assert len(said["confusion"]["safety"]) == 15
