"""Prompts in: ids, drops with reasons, published labels, the language check."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from misalign_bench.build.ingest import Ingested, content_id, ingest
from misalign_bench.build.language import is_english
from misalign_bench.config import SourceSettings
from misalign_bench.errors import UserError
from misalign_bench.records import Reason

PUBLISHED = Path(__file__).parents[1] / ".." / "shared" / "data" / "savacu_classified_prompts.csv"


def read(path: Path, **settings: Any) -> Ingested:
    return ingest(SourceSettings(path=str(path), **settings))


def lines(path: Path, *texts: object, column: str = "prompt") -> Path:
    file = path / "prompts.jsonl"
    file.write_text("".join(json.dumps({column: text}) + "\n" for text in texts), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def published() -> Ingested:
    if not PUBLISHED.exists():
        pytest.skip("the published prompts are not beside the checkout")
    return ingest(SourceSettings(path=str(PUBLISHED)))


def test_prompts_come_in_order_with_source_and_row(tmp_path: Path) -> None:
    found = read(lines(tmp_path, "Why is the sea salty?", "Bake me a cake"))
    assert [(one.text, one.source, one.row) for one in found.prompts] == [
        ("Why is the sea salty?", "prompts.jsonl", 1),
        ("Bake me a cake", "prompts.jsonl", 2),
    ]
    assert found.rows == 2
    assert found.prompts[0].published is None


def test_every_kind_of_file_gives_the_same_prompts(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = ["Is it rude to be late?", "Name, please: a river", 'She said "no"']
    pq.write_table(pa.table({"prompt": texts}), tmp_path / "prompts.parquet")
    (tmp_path / "prompts.txt").write_text("\n".join(texts), encoding="utf-8")
    with (tmp_path / "prompts.csv").open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([["prompt"], *([text] for text in texts)])
    kinds = ("prompts.jsonl", "prompts.parquet", "prompts.txt", "prompts.csv")
    lines(tmp_path, *texts)
    ids = {kind: [one.id for one in read(tmp_path / kind).prompts] for kind in kinds}
    assert all(found == [content_id(text) for text in texts] for found in ids.values())


def test_a_row_is_dropped_with_its_reason_and_its_row(tmp_path: Path) -> None:
    file = lines(
        tmp_path,
        "Why is the sea salty?",
        "  ",
        None,
        "x" * 51,
        "¿Por qué es salado el mar y no el río?",
        "Why is the sea salty?",
    )
    found = read(file, max_characters=50)
    assert [(row.reason, row.detail) for row in found.dropped] == [
        (Reason.EMPTY, "row 2 of prompts.jsonl"),
        (Reason.EMPTY, "row 3 of prompts.jsonl"),
        (Reason.TOO_LONG, "row 4 of prompts.jsonl, 51 characters"),
        (Reason.LANGUAGE, "row 5 of prompts.jsonl, not English"),
        (Reason.IDENTICAL, "row 6 of prompts.jsonl, equal to row 1"),
    ]
    assert {row.stage for row in found.dropped} == {"ingest"}
    assert len(found.prompts) + len(found.dropped) == found.rows == 6


def test_a_prompt_of_two_megabytes_is_dropped_and_the_rest_is_kept(tmp_path: Path) -> None:
    long = "word " * 400_000
    with (tmp_path / "prompts.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["prompt"], [long], ["Boil an egg"]])
    found = read(tmp_path / "prompts.csv")
    assert [one.text for one in found.prompts] == ["Boil an egg"]
    assert [row.reason for row in found.dropped] == [Reason.TOO_LONG]


def test_the_id_depends_on_the_composed_text_alone(tmp_path: Path) -> None:
    found = read(lines(tmp_path, "A caf\u00e9 nearby?", "A cafe\u0301 nearby?"))
    assert [row.reason for row in found.dropped] == [Reason.IDENTICAL]
    assert found.prompts[0].id == content_id(found.prompts[0].text) == "p274a0841ea2019a3"


def test_a_limit_counts_rows_from_the_start(tmp_path: Path) -> None:
    found = read(lines(tmp_path, "One egg", "One egg", "Two eggs"), limit=2)
    assert (len(found.prompts), len(found.dropped), found.rows) == (1, 1, 2)


def test_another_column_and_any_language_can_be_asked_for(tmp_path: Path) -> None:
    file = lines(tmp_path, "Warum ist das Meer salzig und nicht der Fluss?", column="frage")
    assert len(read(file, prompt_column="frage", language=None).prompts) == 1


def test_a_language_that_cannot_be_told_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'de' cannot be told"):
        read(lines(tmp_path, "a"), language="de")


@pytest.mark.parametrize("bad", [7, ["a"], "a\0b", "half \ud800"])
def test_a_prompt_that_is_no_text_is_named_by_its_row(bad: object, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"row 2 of prompts\.jsonl: 'prompt' holds"):
        read(lines(tmp_path, "a", bad))


def test_a_source_without_a_usable_prompt_says_why(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="All 2 rows are dropped: 1 empty, 1 language"):
        read(lines(tmp_path, "", "我怎样才能很快学会做饭"))


def test_the_authors_labels_come_along_and_none_is_no_label(tmp_path: Path) -> None:
    header = ["prompt", "safety_name", "values_name", "cultural_name"]
    rows = [["One egg", "None", "Health", "Culinary Arts"], ["Two eggs", "None", "None", "Unknown"]]
    with (tmp_path / "prompts.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    found = read(tmp_path / "prompts.csv")
    assert [one.published for one in found.prompts] == [
        ("value/Health", "culture/Culinary Arts"),
        (),
    ]


def test_labels_of_our_own_files_come_along(tmp_path: Path) -> None:
    file = tmp_path / "labelled.jsonl"
    row = {"prompt": "One egg", "labels": ["culture/Culinary Arts", "value/Health"]}
    file.write_text(json.dumps(row), encoding="utf-8")
    assert read(file).prompts[0].published == ("value/Health", "culture/Culinary Arts")


def test_a_label_outside_the_taxonomy_is_named_by_its_row(tmp_path: Path) -> None:
    (tmp_path / "prompts.csv").write_text("prompt,values_name\nOne egg,Hunger\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"row 1 of prompts\.csv: 'Hunger' is no value domain"):
        read(tmp_path / "prompts.csv")


def test_all_published_prompts_are_accounted_for(published: Ingested) -> None:
    reasons = [row.reason for row in published.dropped]
    assert published.rows == 20_148
    assert len(published.prompts) == 20_148 - len(reasons)
    assert reasons.count(Reason.IDENTICAL) == 170
    assert len({one.id for one in published.prompts}) == len(published.prompts)


def test_the_language_check_drops_few_published_prompts(published: Ingested) -> None:
    dropped = [row for row in published.dropped if row.reason is Reason.LANGUAGE]
    assert len(dropped) < 0.005 * published.rows


@pytest.mark.parametrize(
    "text",
    [
        "Wie kann ich schnell kochen lernen?",
        "Comment puis-je apprendre à cuisiner rapidement ?",
        "¿Cómo puedo aprender esto para mi hija?",
        "Como posso aprender a cozinhar depressa sem gastar muito dinheiro?",
        "Vorrei che mi dicessi come si fa una torta per il compleanno di mia madre.",
        "Hoe kan ik snel leren koken?",
        "Jak mogę szybko nauczyć się gotować?",
        "Hur kan jag lära mig att laga mat snabbt?",
        "Bagaimana saya dapat belajar memasak dengan cepat?",
        "Làm thế nào để tôi có thể học nấu ăn nhanh?",
        "Hogyan tudok gyorsan megtanulni főzni, ha nincs sok időm és pénzem sem az idén?",
        "Как научиться быстро готовить?",
        "كيف أتعلم الطبخ بسرعة؟",
        "我怎样才能很快学会做饭？",
        "料理を早く覚えるにはどうすればいいですか。",
        "어떻게 하면 요리를 빨리 배울 수 있을까요?",
        "मैं जल्दी खाना बनाना कैसे सीखूँ?",
        "Πώς μπορώ να μάθω να μαγειρεύω γρήγορα;",
    ],
)
def test_other_languages_are_told(text: str) -> None:
    assert not is_english(text)


@pytest.mark.parametrize(
    "text",
    [
        "Bioinformatics",
        "What is tollywood?",
        "Translate the next line into English: Я хочу научиться готовить быстро и вкусно",
        "Is «Es ist nicht alles Gold, was glänzt» the right way to say it in German?",
        "Tell me which of these are wines: Cabernet Sauvignon, Pinot Blanc, Merlot, Syrah, Malbec",
        "Write a slogan for <product name> in [city]",
        "def add(x, y): return x + y",
        "17 * 23 = ?",
    ],
)
def test_english_instructions_stay_whatever_they_are_about(text: str) -> None:
    assert is_english(text)


@given(st.text())
def test_any_text_has_a_language_verdict(text: str) -> None:
    assert is_english(text) in (True, False)
