"""``misalign-bench stats``: the published counts, exactly, and those of our own data."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from exported import write
from misalign_bench.cli.main import main

SHARED = Path(__file__).parents[1] / ".." / "shared" / "data"
Capture = pytest.CaptureFixture[str]


def stats(capsys: Capture, *arguments: str | Path) -> dict[str, Any]:
    assert main(["stats", *map(str, arguments), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_published_counts_are_reproduced_exactly(capsys: Capture) -> None:
    if not SHARED.exists():
        pytest.skip("the shared data are not beside the checkout")
    found = stats(capsys, SHARED / "savacu_classified_prompts.csv")
    assert (found["prompts"], found["labels"]) == (20_148, 35_928)
    with (SHARED / "taxonomy.csv").open(encoding="utf-8", newline="") as file:
        published = [
            {
                "dimension": row["dimension"],
                "name": row["name"],
                "classified": int(row["classified"]),
            }
            for row in csv.DictReader(file)
        ]
    assert len(published) == 111
    assert found["domains"] == published


def test_rows_count_even_if_they_are_equal_or_not_english(tmp_path: Path, capsys: Capture) -> None:
    rows = ["One egg,Health", "One egg,Health", "我想学做饭,None"]
    text = "prompt,values_name\n" + "\n".join(rows) + "\n"
    (tmp_path / "prompts.csv").write_text(text, encoding="utf-8")
    found = stats(capsys, tmp_path / "prompts.csv")
    assert (found["prompts"], found["labels"]) == (3, 2)


def test_a_data_set_counts_each_prompt_once(tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path / "run")
    found = stats(capsys, tmp_path / "run")
    assert (found["prompts"], found["labels"], found["pairs"]) == (4, 8, 8)
    assert found["splits"] == {"train": 4, "validation": 2, "test": 2}
    held = {row["name"]: row["classified"] for row in found["domains"] if row["classified"]}
    assert held == {"Helpfulness": 4, "Festivals": 4}


def test_one_file_of_a_data_set_counts_each_prompt_once(tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path / "run")
    found = stats(capsys, tmp_path / "run" / "data" / "pairs" / "train-00000-of-00001.parquet")
    assert (found["prompts"], found["labels"]) == (2, 4)


def test_without_json_a_pipe_gets_one_line_a_domain(tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path / "run")
    assert main(["stats", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert len(lines) == 112
    assert lines[0] == "dimension\tname\tclassified"
    assert "4 prompts, 8 labels; 8 pairs (train 4, validation 2, test 2)" in printed.err


def test_a_file_without_labels_is_refused_with_its_columns(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "prompts.csv").write_text("prompt,n\nOne egg,1\n", encoding="utf-8")
    assert main(["stats", str(tmp_path / "prompts.csv")]) == 2
    assert "has no labels (columns: prompt, n)" in capsys.readouterr().err


def test_a_folder_that_is_no_data_set_is_refused(tmp_path: Path, capsys: Capture) -> None:
    assert main(["stats", str(tmp_path)]) == 2
    assert "no Parquet files in data/pairs" in capsys.readouterr().err
