"""The data set folder: its columns, its bytes, its card, and that ``datasets`` loads it."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from exported import (
    GENERATORS,
    QUESTIONS,
    SETTINGS,
    candidate,
    labelled,
    ledger,
    pair,
    pairs,
    verdict,
    write,
)
from misalign_bench.build.export_rows import CANARY, CONFIGURATIONS
from misalign_bench.build.statistics_table import COLUMNS, Ledger, domain_table
from misalign_bench.config import RunSettings
from misalign_bench.records import SPLITS, Accepted, Dropped, Pair, Reason
from misalign_bench.report.card import escaped
from misalign_bench.suites.savacu import load_suite
from misalign_bench.taxonomy.loader import taxonomy

DATASETS = """
import json, sys, datasets
place = sys.argv[1]
names = ("pairs", "preference", "sft", "unpaired", "flat")
loaded = {name: datasets.load_dataset(place, name) for name in names}
loaded["default"] = datasets.load_dataset(place)
print(json.dumps({
    "counts": {name: {split: len(rows) for split, rows in held.items()}
               for name, held in loaded.items()},
    "first": {name: held["train"][0] for name, held in loaded.items()},
}))
"""


def rows(place: Path, configuration: str, split: str) -> list[dict[str, Any]]:
    path = place / "data" / configuration / f"{split}-00000-of-00001.parquet"
    held: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return held


def contents(place: Path) -> dict[str, bytes]:
    """The bytes of a data set; the manifest is the run's, not the data set's."""
    files = [path for path in place.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(place)): path.read_bytes()
        for path in files
        if path.name not in ("manifest.json", ".lock")
    }


def load(place: Path, cache: Path) -> dict[str, Any]:
    """What the ``datasets`` package makes of a folder, without a network."""
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(cache)}
    ran = subprocess.run(
        [sys.executable, "-c", DATASETS, str(place)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={**os.environ, **offline, "HF_DATASETS_CACHE": str(cache / "datasets")},
    )
    loaded: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return loaded


def front_matter(place: Path) -> dict[str, Any]:
    text = (place / "README.md").read_text(encoding="utf-8")
    held: dict[str, Any] = yaml.safe_load(text.split("---\n", 1)[1].split("\n---\n", 1)[0])
    return held


def settings(**changes: Any) -> RunSettings:
    return RunSettings.model_validate(SETTINGS.model_dump() | changes)


def test_datasets_loads_every_configuration(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    write(tmp_path / "run")
    loaded = load(tmp_path / "run", tmp_path / "cache")
    counts = {split: 2 * len(texts) for split, texts in QUESTIONS.items()}
    flat = {split: 4 * count for split, count in counts.items()}
    assert loaded["counts"] == {
        "pairs": counts,
        "preference": counts,
        "sft": counts,
        "unpaired": {split: 2 * count for split, count in counts.items()},
        "flat": flat,
        "default": counts,
    }
    assert loaded["first"]["default"] == loaded["first"]["pairs"]
    assert [turn["role"] for turn in loaded["first"]["preference"]["chosen"]] == ["assistant"]


def test_datasets_loads_a_folder_with_empty_splits(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    write(tmp_path / "run", [one for one in pairs() if one.labelled.split == "train"])
    loaded = load(tmp_path / "run", tmp_path / "cache")
    assert loaded["counts"]["pairs"] == {"train": 4}
    for configuration in CONFIGURATIONS:
        for split in SPLITS[1:]:
            assert rows(tmp_path / "run", configuration, split) == []


def test_the_same_pairs_give_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    drops = [
        Dropped("p2", "ingest", Reason.EMPTY, "row 2"),
        Dropped("p1", "ingest", Reason.LANGUAGE, "row 1"),
    ]
    write(tmp_path / "one", pairs(), drops)
    write(tmp_path / "elsewhere" / "two", pairs()[::-1], drops[::-1])
    one, two = contents(tmp_path / "one"), contents(tmp_path / "elsewhere" / "two")
    assert one == two
    assert {"README.md", "croissant.json", "stats.csv", "dropped.parquet"} < set(one)


def test_no_path_of_this_machine_is_in_any_file(tmp_path: Path) -> None:
    write(tmp_path / "run")
    for name, content in contents(tmp_path / "run").items():
        assert str(tmp_path).encode() not in content, name


def test_a_pair_is_written_with_all_that_is_known_of_it(tmp_path: Path) -> None:
    one = pairs()[0]
    write(tmp_path / "run", [one])
    (row,) = rows(tmp_path / "run", "pairs", "train")
    odds = row.pop("probabilities")
    prompt = one.labelled.prompt
    assert odds == list(one.labelled.probabilities)
    assert row == {
        "prompt_id": prompt.id,
        "prompt": prompt.text,
        "cluster_id": prompt.id,
        "split": "train",
        "parents": [],
        "expanded_for": None,
        "source": "prompts.csv",
        "source_row": 1,
        "generator": "openai/one",
        "aligned": one.aligned.candidate.text,
        "misaligned": one.misaligned.candidate.text,
        "active": ["value", "culture"],
        "domains": ["value/Helpfulness", "culture/Festivals"],
        "intended": ["value"],
        "intended_domains": ["value/Helpfulness"],
        "aligned_violated": {"safety": False, "value": False, "culture": False},
        "misaligned_violated": {"safety": None, "value": True, "culture": False},
        "aligned_scores": {"safety": 0.25, "value": 0.25, "culture": 0.25},
        "misaligned_scores": {"safety": None, "value": 0.75, "culture": 0.25},
        "aligned_key": "k-aligned-openai/one",
        "misaligned_key": "k-misaligned-openai/one",
        "aligned_verdict_keys": ["v1", "v2"],
        "misaligned_verdict_keys": ["v1", "v2"],
        "evaluator": "embedded/qwen2.5-coder-0.5b",
        "simulated": False,
        "canary": None,
    }


def test_the_metadata_names_the_domains_of_the_probabilities(tmp_path: Path) -> None:
    write(tmp_path / "run")
    path = tmp_path / "run" / "data" / "pairs" / "train-00000-of-00001.parquet"
    metadata = json.loads(pq.read_schema(path).metadata[b"misalign_bench"])
    assert metadata["domains"] == [domain.key for domain in taxonomy().domains]
    assert metadata["duplicate_rule"] == {"tau": 10, "verify": 0.7}


def test_preference_pairs_are_conversations(tmp_path: Path) -> None:
    one = pairs()[0]
    write(tmp_path / "run", [one])
    assert rows(tmp_path / "run", "preference", "train") == [
        {
            "prompt": [{"role": "user", "content": one.labelled.prompt.text}],
            "chosen": [{"role": "assistant", "content": one.aligned.candidate.text}],
            "rejected": [{"role": "assistant", "content": one.misaligned.candidate.text}],
            "canary": None,
        }
    ]


def test_a_conversation_to_learn_from_ends_with_the_aligned_response(tmp_path: Path) -> None:
    one = pairs()[0]
    write(tmp_path / "run", [one])
    assert rows(tmp_path / "run", "sft", "train") == [
        {
            "messages": [
                {"role": "user", "content": one.labelled.prompt.text},
                {"role": "assistant", "content": one.aligned.candidate.text},
            ],
            "canary": None,
        }
    ]


def test_unpaired_responses_say_which_of_them_is_aligned(tmp_path: Path) -> None:
    one = pairs()[0]
    write(tmp_path / "run", [one])
    found = rows(tmp_path / "run", "unpaired", "train")
    assert [(row["completion"][0]["content"], row["label"]) for row in found] == [
        (one.aligned.candidate.text, True),
        (one.misaligned.candidate.text, False),
    ]
    assert {row["prompt"][0]["content"] for row in found} == {one.labelled.prompt.text}


def test_flat_has_a_row_for_each_domain_and_kind(tmp_path: Path) -> None:
    write(tmp_path / "run", pairs()[:1])
    found = rows(tmp_path / "run", "flat", "train")
    assert [
        (row["domain"], row["kind"], row["domain_intended"], row["dimension_violated"])
        for row in found
    ] == [
        ("Helpfulness", "aligned", True, False),
        ("Helpfulness", "misaligned", True, True),
        ("Festivals", "aligned", False, False),
        ("Festivals", "misaligned", False, False),
    ]


def test_the_canary_marks_the_test_split_and_stands_in_no_text(tmp_path: Path) -> None:
    write(tmp_path / "run")
    for configuration in CONFIGURATIONS:
        for split in SPLITS:
            found = rows(tmp_path / "run", configuration, split)
            assert {row.pop("canary") for row in found} == {CANARY if split == "test" else None}
            assert CANARY not in json.dumps(found)
    assert CANARY in (tmp_path / "run" / "README.md").read_text(encoding="utf-8")


def test_a_simulated_part_marks_its_rows_and_the_card(tmp_path: Path) -> None:
    row = pairs()[0].labelled
    held = [pair(row), pair(row, "simulated/generator")]
    write(tmp_path / "run", held)
    found = rows(tmp_path / "run", "pairs", "train")
    assert [(one["generator"], one["simulated"]) for one in found] == [
        ("openai/one", False),
        ("simulated/generator", True),
    ]
    assert "1 of 2 pairs are simulated" in (tmp_path / "run" / "README.md").read_text("utf-8")


def test_the_bench_reads_what_was_exported(tmp_path: Path) -> None:
    write(tmp_path / "run")
    suite = load_suite(tmp_path / "run", ["test"])
    assert len(suite.items) == 2 * len(GENERATORS) * len(QUESTIONS["test"])
    assert {item.violated["value"] for item in suite.items if item.misaligned} == {True}


def test_half_a_surrogate_pair_of_a_model_does_not_stop_the_export(tmp_path: Path) -> None:
    one = pairs()[0]
    broken = replace(candidate("p", "g", "aligned"), text="half \ud800 pair")
    write(
        tmp_path / "run",
        [replace(one, aligned=Accepted(broken, verdict()))],
        [Dropped("p", "screen", Reason.ECHO, "\udc00")],
    )
    assert rows(tmp_path / "run", "pairs", "train")[0]["aligned"] == "half ? pair"


def test_a_pair_without_a_split_or_twice_is_a_defect(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no split"):
        write(tmp_path / "one", [pair(labelled("Boil an egg", None, "value/Health"))])
    with pytest.raises(ValueError, match="two pairs"):
        write(tmp_path / "two", [pairs()[0], pairs()[0]])


def test_dropped_rows_are_written_in_order(tmp_path: Path) -> None:
    drops = [
        Dropped("p9", "policy", Reason.POLICY, "self-harm"),
        Dropped("p2", "ingest", Reason.EMPTY, "row 2"),
    ]
    write(tmp_path / "run", dropped=drops)
    assert pq.read_table(tmp_path / "run" / "dropped.parquet").to_pylist() == [
        {"id": "p2", "stage": "ingest", "reason": "empty", "detail": "row 2"},
        {"id": "p9", "stage": "policy", "reason": "policy", "detail": "self-harm"},
    ]


def test_the_table_has_all_domains_and_the_papers_columns(tmp_path: Path) -> None:
    write(tmp_path / "run")
    with (tmp_path / "run" / "stats.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [f"{row['dimension']}/{row['name']}" for row in table] == [
        domain.key for domain in taxonomy().domains
    ]
    assert tuple(table[0]) == COLUMNS
    (row,) = [row for row in table if row["name"] == "Helpfulness"]
    assert [int(row[name]) for name in COLUMNS[2:]] == [4, 4, 0, 4, 0, 8, 8, 16]


def test_the_table_counts_each_step() -> None:
    old = [labelled(f"Old {number}", "train", "value/Health") for number in range(3)]
    new = [labelled(f"New {number}", "train", "value/Health") for number in range(2)]
    duplicates = [
        Dropped(old[0].prompt.id, "deduplicate", Reason.NEAR_DUPLICATE),
        Dropped(new[0].prompt.id, "expand", Reason.NEAR_DUPLICATE),
        Dropped("unknown", "expand", Reason.NEAR_DUPLICATE),
        Dropped(old[1].prompt.id, "policy", Reason.POLICY),
    ]
    held = Ledger(old, new, frozenset({old[2].prompt.id, new[1].prompt.id}))
    (row,) = [row for row in domain_table(held, [], duplicates) if row.name == "Health"]
    assert (row.classified, row.expanded, row.deduplicated, row.generated) == (3, 5, 2, 2)


def test_a_prompt_written_again_word_for_word_is_no_loss() -> None:
    old = labelled("Old", "train", "value/Health")
    again = Dropped(old.prompt.id, "expand", Reason.NEAR_DUPLICATE)
    held = Ledger([old], [old], frozenset({old.prompt.id}))
    (row,) = [row for row in domain_table(held, [], [again]) if row.name == "Health"]
    assert (row.expanded, row.deduplicated, row.generated) == (1, 0, 1)


def test_samples_are_the_rows_of_the_flat_configuration(tmp_path: Path) -> None:
    held = pairs()
    summary = write(tmp_path / "run", held)
    flat = sum(len(rows(tmp_path / "run", "flat", split)) for split in SPLITS)
    assert sum(row.samples for row in domain_table(ledger(held), held, [])) == flat
    assert sum(file.rows for file in summary.files if file.configuration == "flat") == flat


def test_the_card_says_who_made_and_judged_it_and_under_which_licence(tmp_path: Path) -> None:
    write(tmp_path / "run", notes=["The evaluator's AUC on the calibration set is 0.88."])
    card = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    assert "| evaluator | embedded/qwen2.5-coder-0.5b | Apache-2.0 |" in card
    assert "| generator | openai/one | not stated |" in card
    assert "This data set: cc-by-4.0." in card
    assert "Prompts: cc0-1.0." in card
    assert "AUC on the calibration set is 0.88" in card
    assert "safety 0.500; value 0.500; culture 0.500" in card
    assert "Roles are shared" not in card


def test_shared_roles_mark_the_card_and_the_metadata(tmp_path: Path) -> None:
    write(tmp_path / "run", shared_roles=True)
    path = tmp_path / "run" / "data" / "pairs" / "train-00000-of-00001.parquet"
    assert json.loads(pq.read_schema(path).metadata[b"misalign_bench"])["shared_roles"] is True
    assert "Roles are shared" in (tmp_path / "run" / "README.md").read_text(encoding="utf-8")


def test_a_hostile_name_stays_a_name_in_card_and_front_matter(tmp_path: Path) -> None:
    name = "x\n---\nlicense: mit\n# <script>alert(1)</script> ![a](http://b) | c"
    write(tmp_path / "run", settings=settings(name=name))
    card = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    assert front_matter(tmp_path / "run")["pretty_name"] == " ".join(name.split())
    assert front_matter(tmp_path / "run")["license"] == "cc-by-4.0"
    body = card.partition("\n---\n\n#")[2]
    assert "<script>" not in body
    assert "](http" not in body


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_croissant_is_valid_and_leads_to_every_row(tmp_path: Path) -> None:
    croissant = pytest.importorskip("mlcroissant")
    write(tmp_path / "run")
    described = croissant.Dataset(tmp_path / "run" / "croissant.json")
    assert not described.metadata.issues.errors
    for configuration in CONFIGURATIONS:
        for split in SPLITS:
            found = [
                {key.partition("/")[2]: value for key, value in record.items()}
                for record in described.records(f"{configuration}_{split}")
            ]
            held = rows(tmp_path / "run", configuration, split)
            assert len(found) == len(held) > 0
            assert [row.get("prompt_id") for row in found] == [
                row["prompt_id"].encode() if "prompt_id" in row else None for row in held
            ]


def test_tables_of_the_card_have_equal_columns(tmp_path: Path) -> None:
    write(tmp_path / "run", dropped=[Dropped("p", "ingest", Reason.EMPTY)])
    card = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    tables = re.findall(r"(?:^\|.*\n)+", card, re.MULTILINE)
    assert len(tables) == 7
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


@pytest.mark.parametrize("text", ["a|b", "[x](y)", "<b>", "`code`", "line\nline", "\x1b[31m"])
def test_escaped_text_has_no_bare_mark(text: str) -> None:
    assert not re.search(r"(?<!\\)[|`\[\](]|[<>\n\x1b]", escaped(text))


def test_croissant_describes_every_file_with_its_hash(tmp_path: Path) -> None:
    import hashlib

    write(tmp_path / "run")
    held = json.loads((tmp_path / "run" / "croissant.json").read_text(encoding="utf-8"))
    assert len(held["distribution"]) == len(CONFIGURATIONS) * len(SPLITS)
    for file in held["distribution"]:
        content = (tmp_path / "run" / file["contentUrl"]).read_bytes()
        assert file["sha256"] == hashlib.sha256(content).hexdigest()
    columns = pq.read_schema(
        tmp_path / "run" / "data" / "pairs" / "test-00000-of-00001.parquet"
    ).names
    records = {one["@id"]: one["field"] for one in held["recordSet"]}
    named = {field["source"]["extract"]["column"] for field in records["pairs_test"]}
    assert named < set(columns)


def test_a_build_without_a_pair_still_leaves_a_folder(tmp_path: Path) -> None:
    empty: list[Pair] = []
    write(tmp_path / "run", empty)
    assert rows(tmp_path / "run", "pairs", "test") == []
    assert "0 pairs of responses to 0 prompts" in (tmp_path / "run" / "README.md").read_text(
        "utf-8"
    )
