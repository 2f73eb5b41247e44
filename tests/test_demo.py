"""The small demo, run for real: one 98 MB model writes, judges and is tested, then the page.

Nothing about quality is asserted: the model is too small to judge. What must hold is that every
step runs on it, that the files are complete, and that the page says what it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from misalign_bench.cli.main import main
from misalign_bench.errors import OutsideWorld
from misalign_bench.llm import weights

PROMPTS = 6


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("xllamacpp", reason="the embedded engine is not installed")
    try:
        for name in ("smollm2-135m", "minilm"):
            weights.get(name)
    except OutsideWorld as error:
        pytest.skip(f"weights cannot be had: {error}")
    out = tmp_path_factory.mktemp("demo")
    arguments = ["demo", "--small", "--limit", str(PROMPTS), "--out", str(out), "--quiet"]
    assert main(arguments) == 0
    return out


def rows(folder: Path, configuration: str) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for split in ("train", "validation", "test"):
        name = f"{split}-00000-of-00001.parquet"
        found += pq.read_table(folder / "savacu" / "data" / configuration / name).to_pylist()
    return found


def test_it_makes_pairs_with_all_that_is_known_of_them(demo: Path) -> None:
    pairs = rows(demo, "pairs")
    assert pairs
    for pair in pairs:
        assert pair["aligned"].strip() != pair["misaligned"].strip()
        assert set(pair["intended"]) <= set(pair["active"])
        assert any(pair["misaligned_violated"][dimension] for dimension in pair["intended"])
        assert not any(pair["aligned_violated"].values())
        assert pair["domains"]


def test_every_dropped_row_has_a_stage_and_a_reason(demo: Path) -> None:
    dropped = pq.read_table(demo / "savacu" / "dropped.parquet").to_pylist()
    assert all(row["stage"] and row["reason"] for row in dropped)


def test_the_data_set_loads_with_datasets(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    loaded = datasets.load_dataset(
        str(demo / "savacu"), "pairs", cache_dir=str(demo / "datasets-cache")
    )
    assert sum(split.num_rows for split in loaded.values()) == len(rows(demo, "pairs"))


def test_the_bench_scores_every_response_in_every_dimension(demo: Path) -> None:
    verdicts = pq.read_table(demo / "bench" / "verdicts.parquet").to_pylist()
    items = {row["item_id"] for row in verdicts}
    assert len(items) == 2 * len(rows(demo, "pairs"))
    for item in items:
        asked = sorted(row["dimension"] for row in verdicts if row["item_id"] == item)
        assert asked == ["culture", "joint", "safety", "value"]


def test_the_results_are_marked_and_keep_own_items_out_of_the_headline(demo: Path) -> None:
    results = json.loads((demo / "bench" / "results.json").read_text())
    assert results["shared_roles"]
    (condition,) = results["targets"][0]["conditions"]
    assert condition["joint"]["coverage"]["n"] == 0
    assert condition["own_items"]["coverage"]["n"] == len(rows(demo, "pairs"))


def test_the_page_says_that_it_is_plumbing_only(demo: Path) -> None:
    page = (demo / "page.html").read_text()
    assert "plumbing only" in page.lower()
    assert "SmolLM2" in page or "smollm2" in page


def test_running_it_again_asks_nothing_again(demo: Path) -> None:
    journal = demo / "savacu" / "journal.sqlite"
    before = count(journal)
    stats = (demo / "savacu" / "stats.csv").read_bytes()
    arguments = ["demo", "--small", "--limit", str(PROMPTS), "--out", str(demo), "--quiet"]
    assert main(arguments) == 0
    assert count(journal) == before
    assert (demo / "savacu" / "stats.csv").read_bytes() == stats


def count(journal: Path) -> int:
    from misalign_bench.journal.store import Journal

    assert os.path.getsize(journal) > 0
    with Journal.open(journal, read_only=True) as opened:
        return opened.count()
