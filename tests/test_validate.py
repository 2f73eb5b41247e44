"""``misalign-bench validate``: what it checks, and that each fault is told in a line of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from exported import SETTINGS, labelled, pair, write
from misalign_bench.build.export_rows import CANARY
from misalign_bench.cli.main import main
from misalign_bench.config_file import SHIPPED

Capture = pytest.CaptureFixture[str]
Row = dict[str, Any]


def problems(capsys: Capture, source: str | Path) -> list[str]:
    """The lines that validate has against a source; the exit code must agree."""
    code = main(["validate", str(source)])
    said = capsys.readouterr().err.splitlines()
    assert code == (2 if said else 0)
    return [line.removeprefix("misalign-bench: ") for line in said]


def configuration(place: Path, **changes: Any) -> Path:
    (place / "prompts.txt").write_text("Boil an egg\n", encoding="utf-8")
    path = place / "run.yaml"
    held = {
        "source": {"path": "prompts.txt"},
        "roles": {
            "classifier": "embedded/minilm",
            "generators": ["simulated/generator"],
            "evaluator": "simulated/judge",
        },
        "classify": {"method": "embedding"},
        "expand": {"enabled": False},
    }
    path.write_text(yaml.safe_dump(held | changes), encoding="utf-8")
    return path


def changed(place: Path, configuration: str, split: str, change: Callable[[Row], None]) -> None:
    """Change every row of one file of a data set."""
    path = place / "data" / configuration / f"{split}-00000-of-00001.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    for row in rows:
        change(row)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_configurations_are_valid(name: str, capsys: Capture) -> None:
    assert problems(capsys, name) == []


def test_a_valid_configuration_says_what_was_checked(tmp_path: Path, capsys: Capture) -> None:
    assert main(["validate", str(configuration(tmp_path)), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["problems"] == []
    assert "roles: kept apart" in found["checked"]
    assert "source: 1 prompts in 1 rows, 0 dropped" in found["checked"]
    assert "model simulated/judge: results will be marked simulated" in found["checked"]


def test_every_fault_of_a_configuration_is_a_line(tmp_path: Path, capsys: Capture) -> None:
    path = configuration(
        tmp_path,
        source={"path": "absent.csv"},
        roles={
            "classifier": "openai/c",
            "generators": ["simulated/judge", "embedded/nothing", "simulated/nobody"],
            "evaluator": "simulated/judge",
        },
        policy={"allow_domains": ["safety/Child abuse"]},
        expand={"domains": ["value/Hunger"]},
        budget={"max_cost": 1.0},
    )
    said = problems(capsys, path)
    expected = [
        "there are no weights named 'nothing'",
        "there is no behaviour 'nobody'",
        "the evaluator simulated/judge is also a generator",
        "safety/Child abuse is never allowed",
        "embedding needs an embedding model, not openai/c",
        "no model for it is named",
        "the price of",
        "there is no such file",
    ]
    for fault in expected:
        assert any(fault in line for line in said), (fault, said)


def test_an_unknown_key_and_broken_yaml_are_told(tmp_path: Path, capsys: Capture) -> None:
    (line,) = problems(capsys, configuration(tmp_path, judge={"strictness": 3}))
    assert "judge.strictness: unknown key" in line
    (tmp_path / "broken.yaml").write_text("a: [", encoding="utf-8")
    (line,) = problems(capsys, tmp_path / "broken.yaml")
    assert "not valid YAML" in line


def test_allowed_sharing_is_told_but_is_no_fault(tmp_path: Path, capsys: Capture) -> None:
    roles = {
        "classifier": "embedded/minilm",
        "generators": ["simulated/judge"],
        "evaluator": "simulated/judge",
        "allow_shared_roles": True,
    }
    path = configuration(tmp_path, roles=roles, bench={"targets": ["simulated/judge?name=other"]})
    assert main(["validate", str(path)]) == 0
    assert "also a generator: allowed, and every result will be marked" in capsys.readouterr().out


def test_the_evaluator_may_not_be_a_target(tmp_path: Path, capsys: Capture) -> None:
    (line,) = problems(capsys, configuration(tmp_path, bench={"targets": ["simulated/judge"]}))
    assert "bench: the target simulated/judge is the evaluator" in line


def test_an_exported_data_set_is_valid(tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path / "run")
    assert main(["validate", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    for check in ("taxonomy and canary", "no cluster stands in two splits", "the card names"):
        assert check in said


def test_a_data_set_with_empty_splits_is_valid(tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path / "run", [pair(labelled("Boil an egg", "train", "value/Helpfulness"))])
    assert problems(capsys, tmp_path / "run") == []


FAULTS: list[tuple[str, str, str, Callable[[Row], None], str]] = [
    ("pairs", "test", "canary", lambda row: row.update(canary=None), "canary is None"),
    ("flat", "train", "canary", lambda row: row.update(canary=CANARY), "canary is 'MISALIGN"),
    ("pairs", "train", "id", lambda row: row.update(prompt="Other"), "is not the id of its prompt"),
    ("pairs", "train", "split", lambda row: row.update(split="test"), "says split 'test'"),
    ("pairs", "train", "pair", lambda row: row.update(generator="g"), "a second pair of"),
    (
        "pairs",
        "train",
        "label",
        lambda row: row.update(domains=["value/Hunger"], active=["value"]),
        "'value/Hunger' is no domain of the taxonomy (8 responses)",
    ),
    (
        "pairs",
        "train",
        "active",
        lambda row: row.update(active=["value"]),
        "'active' is not what its domains say",
    ),
    (
        "pairs",
        "train",
        "intended",
        lambda row: row.update(intended=["safety"]),
        "violates no intended dimension",
    ),
    (
        "pairs",
        "train",
        "aligned",
        lambda row: row.update(aligned_violated={"safety": True}),
        "the aligned response violates a dimension",
    ),
    (
        "pairs",
        "train",
        "cluster",
        lambda row: row.update(cluster_id="pc013afe18dd00b8e"),
        "cluster pc013afe18dd00b8e stands in test and train",
    ),
]


@pytest.mark.parametrize(
    ("part", "split", "change", "complaint"),
    [(part, split, change, complaint) for part, split, _, change, complaint in FAULTS],
    ids=[name for _, _, name, _, _ in FAULTS],
)
def test_a_fault_of_a_data_set_is_told(
    part: str,
    split: str,
    change: Callable[[Row], None],
    complaint: str,
    tmp_path: Path,
    capsys: Capture,
) -> None:
    write(tmp_path / "run")
    changed(tmp_path / "run", part, split, change)
    assert any(complaint in line for line in problems(capsys, tmp_path / "run"))


def test_near_duplicates_in_two_splits_are_found_whatever_the_clusters_say(
    tmp_path: Path, capsys: Capture
) -> None:
    text = "Write a short and cheerful poem about the grey northern sea in early winter for my aunt"
    held = [
        pair(labelled(text, "train", "value/Helpfulness")),
        pair(labelled(text + "!", "test", "value/Helpfulness")),
    ]
    write(tmp_path / "run", held)
    (line,) = problems(capsys, tmp_path / "run")
    assert line.startswith("near-duplicates stand in different splits: p")


def test_the_data_sets_own_duplicate_rule_is_applied(tmp_path: Path, capsys: Capture) -> None:
    held = [
        pair(labelled("Explain macroeconomics briefly", "train", "value/Helpfulness")),
        pair(labelled("Explain microeconomics briefly", "test", "value/Helpfulness")),
    ]
    write(tmp_path / "verified", held)
    plain = SETTINGS.model_copy(
        update={"deduplicate": SETTINGS.deduplicate.model_copy(update={"verify": None})}
    )
    write(tmp_path / "plain", held, settings=plain)
    assert problems(capsys, tmp_path / "verified") == []
    assert len(problems(capsys, tmp_path / "plain")) == 1


def test_missing_files_and_columns_are_told(tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path / "run")
    data = tmp_path / "run" / "data"
    (data / "flat" / "test-00000-of-00001.parquet").unlink()
    (data / "preference" / "train-00000-of-00001.parquet").write_bytes(b"nothing")
    path = data / "pairs" / "train-00000-of-00001.parquet"
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["canary"]), path)
    said = problems(capsys, tmp_path / "run")
    assert any("test-00000-of-00001.parquet: there is no such file" in line for line in said)
    assert any("is not Parquet, or broken" in line for line in said)
    assert any("has no column 'canary'" in line for line in said)


def test_a_card_that_hides_a_split_is_told(tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path / "run")
    (tmp_path / "run" / "README.md").write_text("# no front matter\n", encoding="utf-8")
    (line,) = problems(capsys, tmp_path / "run")
    assert "has no front matter that names the data files" in line


def test_many_faults_of_a_kind_are_cut_short(tmp_path: Path, capsys: Capture) -> None:
    rows = [labelled(f"Ask about {number}", "test", "value/Helpfulness") for number in range(9)]
    write(tmp_path / "run", [pair(row) for row in rows])
    changed(tmp_path / "run", "pairs", "test", lambda row: row.update(canary=None))
    said = problems(capsys, tmp_path / "run")
    assert len(said) == 6
    assert said[-1] == "... and 4 more like it"


def test_a_file_of_ones_own_is_checked_too(tmp_path: Path, capsys: Capture) -> None:
    rows = [
        {"prompt": "Boil an egg?", "aligned": "Yes.", "misaligned": "No.", "split": split}
        for split in ("train", "test")
    ]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert any("stands in test and train" in line for line in problems(capsys, path))
    path.write_text(json.dumps(rows[0]) + "\n", encoding="utf-8")
    assert problems(capsys, path) == []


def test_what_is_neither_is_refused(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "notes.md").write_text("a", encoding="utf-8")
    (line,) = problems(capsys, tmp_path / "notes.md")
    assert "is neither a configuration nor a data set" in line
