"""The page as a folder without a browser: its files, what they may hold, what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from misalign_bench.errors import UserError
from misalign_bench.report import page_folder
from misalign_bench.report.example_choice import chosen
from misalign_bench.report.write import write_report
from page_runs import CAREFUL, PLANTED, RELAXED, Folders, make_large

CALL = re.compile(r'misalignBench\("(\w+)",(".*")\);\n')


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """A bench of 300 items and two targets."""
    return make_large(tmp_path_factory.mktemp("large"), 300, (CAREFUL, RELAXED))


@pytest.fixture(scope="module")
def folder(made: Folders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its page with all 600 verdicts."""
    out = tmp_path_factory.mktemp("out") / "page"
    write_report([made.bench], out)
    return out


def held_by(path: Path) -> tuple[str, Any]:
    """What a data file hands over, and under which name."""
    call = CALL.fullmatch(path.read_text(encoding="utf-8"))
    assert call, path
    return call[1], json.loads(json.loads(call[2]))


def test_every_verdict_stands_once_in_the_index_and_where_it_says(folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir())
    assert names == [
        *(f"data-{number:04d}.js" for number in range(1, 7)),
        "data-index.js",
        "index.html",
    ]
    _, index = held_by(folder / "data-index.js")
    assert len(index["rows"]) == 600
    files = {}
    for path in sorted(folder.glob("data-0*.js")):
        name, rows = held_by(path)
        files[int(name)] = rows
    seen = set()
    for row in index["rows"]:
        one = dict(zip(index["columns"], row, strict=True))
        example = files[one["file"]][one["row"]]
        assert example["item_id"] == one["item"]
        assert example["outcome"] == index["values"]["outcome"][one["outcome"]]
        assert example["target"] == index["values"]["target"][one["target"]]
        domains = [index["values"]["domain"][number] for number in one["domains"]]
        assert example["domains"] == domains
        assert example["prompt"].startswith(one["title"].split("⟦")[0][:20])
        seen.add((one["item"], example["target"]))
    assert len(seen) == 600


def test_nothing_in_a_data_file_can_end_its_string_or_be_markup(folder: Path) -> None:
    for path in folder.glob("data-*.js"):
        text = path.read_bytes()
        assert text.isascii()
        assert not re.search(rb"[<>&\x00-\x09\x0b-\x1f]", text)
        assert text.count(b"\n") == 1
    _, rows = held_by(folder / "data-0001.js")
    assert any(PLANTED[0] in row["response"] for row in rows)
    assert not any("\u202e" in row["response"] for row in rows)


def test_a_text_that_looks_like_the_end_of_the_call_stays_a_text() -> None:
    text = '"); alert(1); //\u2028</script><!--\\'
    call = CALL.fullmatch(page_folder.data_file("1", [text]))
    assert call
    shown = text.replace("\u2028", "⟦U+2028⟧")
    assert json.loads(json.loads(call[2])) == [shown]


def test_the_policy_lets_in_what_carries_the_nonce_and_no_address(folder: Path) -> None:
    page = (folder / "index.html").read_text(encoding="utf-8")
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert found
    [rule] = [rule for rule in found[1].replace("&#39;", "'").split("; ") if "script-src" in rule]
    kinds = [re.sub(r"-.*", "", word.strip("'")) for word in rule.split()[1:]]
    assert kinds == ["sha256", "sha256", "nonce"]
    nonce = rule.split()[-1].strip("'").removeprefix("nonce-")
    assert page.count(nonce) == 2
    assert not any(nonce in path.read_text() for path in folder.glob("data-*.js"))
    assert "loads only the files beside it" in page


def test_the_same_run_gives_the_same_folder_and_replaces_the_old_one(
    made: Folders, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "page"
    write_report([made.bench], out, limit=20)
    assert len(list(out.iterdir())) == 3
    write_report([made.bench], out)
    assert [path.name for path in tmp_path.iterdir()] == ["page"]
    for path in folder.iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes()


def test_a_folder_of_other_files_is_left_alone(made: Folders, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"other files than a page's \(thesis\.tex\)"):
        write_report([made.bench], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    (tmp_path / "page").write_text("")
    with pytest.raises(UserError, match="is no folder"):
        write_report([made.bench], tmp_path / "page")


def test_a_page_that_fails_leaves_the_old_one(
    made: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "page"
    write_report([made.bench], out, limit=10)
    before = (out / "index.html").read_bytes()

    def full(*_: Any, **__: Any) -> str:
        raise UserError("no room")

    monkeypatch.setattr(page_folder, "lay_out", full)
    with pytest.raises(UserError, match="no room"):
        write_report([made.bench], out, limit=20)
    assert [path.name for path in tmp_path.iterdir()] == ["page"]
    assert (out / "index.html").read_bytes() == before


def test_the_choice_is_even_over_outcomes_as_far_as_they_reach(made: Folders) -> None:
    path = made.bench / "verdicts.parquet"
    everything = chosen(path, 10_000)
    assert sorted(everything.values()) == list(range(600))
    few = chosen(path, 40)
    assert set(few) <= set(everything)
    first = list(everything)[:8]
    assert first == list(few)[:8]
    assert len({(key[1]) for key in first}) == 2
