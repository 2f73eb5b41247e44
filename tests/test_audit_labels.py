"""Labels of annotators: strict reading, majority, agreement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from misalign_bench.bench.audit.agreement import agreement, cohen_kappa
from misalign_bench.bench.audit.key import Key, KeyRow
from misalign_bench.bench.audit.labels import FORMAT, Annotator, majority, read_labels
from misalign_bench.bench.krippendorff import alpha
from misalign_bench.errors import UserError
from misalign_bench.records import DIMENSIONS, Dimension

IDS = ("r1", "r2", "r3")
KEY = Key(
    audit="a1",
    seed=0,
    evaluators=("openai/judge",),
    simulated=False,
    unjudged=0,
    splits=(),
    population={"accepted": 3, "rejected": 0},
    rows=tuple(
        KeyRow(
            id=name,
            stratum="accepted",
            weight=1.0,
            item_id=f"p:{name}",
            cluster_id=name,
            prompt_id="p",
            generator="g",
            kind="aligned",
            split="test",
            journal_key=name,
            flagged=dict.fromkeys(DIMENSIONS, False),
        )
        for name in IDS
    ),
)


def saved(**changes: Any) -> dict[str, Any]:
    row = {"id": "r1", "safety": "yes", "value": "no", "culture": "unsure", "note": "odd"}
    return {"format": FORMAT, "audit": "a1", "annotator": "ann", "labels": [row]} | changes


def written(folder: Path, content: object, name: str = "labels.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def person(name: str, **answers: str) -> Annotator:
    """Answers by response, a letter a dimension: y, n, u, or - for none."""
    known = {"y": True, "n": False, "u": None}
    table: dict[str, dict[Dimension, bool | None]] = {
        response: {
            dimension: known[letter]
            for dimension, letter in zip(DIMENSIONS, letters, strict=True)
            if letter != "-"
        }
        for response, letters in answers.items()
    }
    return Annotator(name, table)


def test_a_saved_form_is_read(tmp_path: Path) -> None:
    (one,) = read_labels([written(tmp_path, saved())], KEY)
    assert one.name == "ann"
    assert one.answers == {"r1": {"safety": True, "value": False, "culture": None}}
    assert one.vote("r1", "joint") == "yes"
    assert one.vote("r2", "safety") == "missing"


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_sheet_is_read_as_spreadsheets_write_it(tmp_path: Path, mark: str) -> None:
    lines = [
        "audit,id,prompt,response,safety,value,culture,note",
        'a1,r1,"a, prompt","two\nlines", Yes ,NO,,',
        "a1,r2,a prompt,a reply,unsure,no,no,",
        ",,,,,,,",
    ]
    text = "\ufeff" + "\r\n".join(lines).replace("a, prompt", "a prompt").replace(",", mark)
    (one,) = read_labels([written(tmp_path, text, "ben.csv")], KEY)
    assert one.name == "ben"
    assert one.answers["r1"] == {"safety": True, "value": False}
    assert one.answers["r2"] == {"safety": None, "value": False, "culture": False}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("{", "not valid JSON"),
        ("[]", "it is no label file"),
        (saved(format="other"), "it is no label file"),
        (saved(audit="a2"), "it is about the audit 'a2'"),
        (saved(annotator=3), "'annotator' must be a text"),
        (saved(annotator="  "), "it names no annotator"),
        (saved(labels={}), "'labels' a list"),
        (saved(extra=1), "unknown field 'extra'"),
        (saved(labels=[3]), "label 1: a label must be an object"),
        (saved(labels=[{"id": "r9"}]), "'r9' is not in the sample"),
        (saved(labels=[{"id": ["r1"]}]), "is not in the sample"),
        (saved(labels=[{"id": "r1"}, {"id": "r1"}]), "label 2: 'r1' is labelled twice"),
        (saved(labels=[{"id": "r1", "verdict": "yes"}]), "unknown field 'verdict'"),
        (saved(labels=[{"id": "r1", "safety": True}]), "'safety' holds True"),
        (saved(labels=[{"id": "r1", "safety": "maybe"}]), "Known: yes, no, unsure"),
        (saved(labels=[{"id": "r1", "note": 3}]), "'note' must be a text"),
    ],
)
def test_a_file_that_is_not_right_is_one_line(tmp_path: Path, content: object, line: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(UserError) as raised:
        read_labels([path], KEY)
    assert line in str(raised.value)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("id,safety,value,culture\nr1,no,no,no\n", "no column 'audit'"),
        ("audit,id,safety,value\na1,r1,no,no\n", "no column 'culture'"),
        ("audit,id,safety,value,culture,age\na1,r1,no,no,no,3\n", "unknown field 'age'"),
        ("audit,id,safety,value,culture\na1,r1,no,no,no,3\n", "more cells than columns"),
        ("audit,id,safety,value,culture\na2,r1,no,no,no\n", "it is about the audit 'a2'"),
        ("audit,id,safety,value,culture\na1,r1,no,no,no\na1,r1,no,no,no\n", "line 3: 'r1'"),
        ("audit,id,safety,value,culture\na1,r1,1,no,no\n", "'safety' holds '1'"),
        ("", "no column"),
    ],
)
def test_a_sheet_that_is_not_right_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    with pytest.raises(UserError, match=line):
        read_labels([written(tmp_path, text, "ann.csv")], KEY)


def test_two_files_of_one_annotator_are_refused(tmp_path: Path) -> None:
    first = written(tmp_path, saved(), "one.json")
    second = written(tmp_path, saved(annotator="Ann"), "two.json")
    with pytest.raises(UserError, match="one file for each annotator"):
        read_labels([first, second], KEY)


def test_a_file_that_is_not_text_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "ann.csv"
    path.write_bytes(b"audit;id\xff\xfe")
    with pytest.raises(UserError, match="not UTF-8"):
        read_labels([path], KEY)
    with pytest.raises(UserError, match="cannot be read"):
        read_labels([tmp_path / "none.csv"], KEY)


@pytest.mark.parametrize(
    ("letters", "word"),
    [
        (["ynn", "nnn", "ynn"], "yes"),
        (["ynn", "nnn"], "tied"),
        (["ynn", "unn"], "yes"),
        (["unn", "---"], "unsure"),
        (["---", "---"], "missing"),
        (["nnn", "---", "nnn"], "no"),
    ],
)
def test_the_majority_decides_and_a_tie_is_no_label(letters: list[str], word: str) -> None:
    people = [person(str(number), r1=held) for number, held in enumerate(letters)]
    assert majority(people, "r1", "safety") == word


def test_each_annotators_own_joint_answer_votes_on_the_joint_one() -> None:
    people = [person("a", r1="ynn"), person("b", r1="nyn"), person("c", r1="nnn")]
    assert majority(people, "r1", "safety") == "no"
    assert majority(people, "r1", "joint") == "yes"


@pytest.mark.parametrize(
    ("letters", "word"), [("y--", "yes"), ("nn-", "missing"), ("nnu", "unsure"), ("nnn", "no")]
)
def test_a_joint_answer_needs_all_three_unless_one_is_yes(letters: str, word: str) -> None:
    assert person("a", r1=letters).vote("r1", "joint") == word


def test_kappa_is_that_of_statsmodels() -> None:
    inter_rater = pytest.importorskip("statsmodels.stats.inter_rater")
    draw = np.random.default_rng(4)
    for _ in range(20):
        first = draw.random(60) < 0.4
        second = np.where(draw.random(60) < 0.8, first, draw.random(60) < 0.5)
        table = np.zeros((2, 2))
        np.add.at(table, (first.astype(int), second.astype(int)), 1)
        ours = cohen_kappa(list(zip(first.tolist(), second.tolist(), strict=True)))
        assert ours == pytest.approx(inter_rater.cohens_kappa(table, return_results=False))


def test_kappa_is_not_defined_where_nothing_could_differ() -> None:
    assert cohen_kappa([]) is None
    assert cohen_kappa([(True, True)] * 5) is None


def test_two_annotators_have_kappa_and_more_have_alpha() -> None:
    people = [
        person("a", r1="ynn", r2="nnn", r3="ynn"),
        person("b", r1="ynn", r2="ynn", r3="unn"),
        person("c", r1="nnn", r2="nnn", r3="ynn"),
    ]
    assert agreement(people[:1], IDS, "safety") is None
    two = agreement(people[:2], IDS, "safety")
    assert two is not None
    assert (two.statistic, two.n, two.same) == ("cohen_kappa", 2, 0.5)
    assert two.value == pytest.approx(0.0)
    three = agreement(people, IDS, "safety")
    assert three is not None
    assert (three.statistic, three.n) == ("krippendorff_alpha", 3)
    ratings = [(True, True, False), (False, True, False), (True, None, True)]
    assert three.value == pytest.approx(alpha(ratings))
    assert three.same == pytest.approx(1 / 3)
