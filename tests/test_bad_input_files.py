"""Files that cannot be used: one line that says what, where and how to mend it, and exit code 2."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from misalign_bench.build.ingest import ingest
from misalign_bench.build.readers import read_rows
from misalign_bench.cli.main import main
from misalign_bench.config import SourceSettings
from misalign_bench.errors import OutsideWorld, UserError
from misalign_bench.journal.manifest import read_manifest
from misalign_bench.report.audit_view import read_audit
from misalign_bench.report.bench_run import read_bench_run
from misalign_bench.report.label_reliability import read_reliability

BROKEN = [
    ("a.csv", b"", "is empty"),
    ("a.jsonl", b"\n\n", "is empty"),
    ("a.txt", b"", "is empty"),
    ("a.parquet", b"", "is empty"),
    ("a.csv", b"prompt\n", "is empty"),
    ("a.csv", b"text,n\nOne egg,1\n", "has no column 'prompt' (columns: text, n)"),
    ("a.jsonl", b'{"text": "One egg"}\n', "has no column 'prompt' (columns: text)"),
    ("a.csv", b"prompt\nOne egg\ncaf\xe9\n", "is not UTF-8 (line 3, byte 18 of the file)"),
    ("a.jsonl", b'{"prompt": "a"}\n{"prompt": "\xff"}\n', "(line 2, byte 28 of the file)"),
    ("a.txt", b"\xff\xfeO\x00n\x00e\x00", "is not UTF-8 (line 1, byte 0 of the file)"),
    ("a.jsonl", b'{"prompt": "a"}\n{"prompt": \n', "line 2 is not JSON"),
    ("a.jsonl", b"[" * 100_000, "line 1 is not JSON"),
    ("a.csv", b"prompt,labels\nOne egg," + b"[" * 100_000 + b"\n", "'labels' is no list of labels"),
    ("a.jsonl", b'["One egg"]\n', "line 1 is not a JSON object"),
    ("a.csv", b"prompt\na\0b\n", "line 2 holds a NUL byte"),
    ("a.txt", b"One egg\n\0\0\0\n", "line 2 holds a NUL byte"),
    ("a.csv", b'prompt\n"open\n', "unexpected end of data"),
    ("a.csv", b"prompt\na,b\n", "line 2 has more fields than the header"),
    ("a.parquet", b"PAR1 and then nothing PAR1", "is not Parquet, or broken"),
    ("a.xlsx", b"PK", "is of no known kind"),
]


@pytest.mark.parametrize(("name", "content", "complaint"), BROKEN)
def test_a_broken_file_is_one_line_that_names_it(
    name: str, content: bytes, complaint: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as refusal:
        ingest(SourceSettings(path=str(tmp_path / name)))
    assert refusal.value.exit_code == 2
    assert complaint in str(refusal.value)
    assert name in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_parquet_file_cut_off_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"prompt": ["One egg"] * 1_000}), path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="is not Parquet, or broken"):
        read_rows(path)


def test_parquet_with_a_damaged_page_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    texts = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(5_000)]
    pq.write_table(pa.table({"prompt": texts}), path, compression="zstd", use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[2_000:2_400] = b"\xff" * 400
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"a\.parquet"):
        read_rows(path)


def test_a_missing_column_is_mended_by_naming_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\nOne egg\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"--prompt-column NAME.*source\.prompt_column"):
        read_rows(tmp_path / "a.csv")
    assert read_rows(tmp_path / "a.csv", prompt_column="text") == [{"text": "One egg"}]


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        read_rows(tmp_path / "absent.csv")
    with pytest.raises(UserError, match="is a folder, not a file"):
        read_rows(tmp_path)


def test_no_source_at_all_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"source\.path or source\.dataset"):
        ingest(SourceSettings())


def test_a_source_is_read_from_a_hub_only_where_it_can_be_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    datasets = pytest.importorskip("datasets")

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(OutsideWorld, match=r"nobody/nothing: the hub gave no data: no route$"):
        ingest(SourceSettings(dataset="nobody/nothing"))


def test_a_hub_data_set_is_read_like_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    held = datasets.Dataset.from_dict({"prompt": ["One egg", "Two eggs"]})
    asked: list[object] = []

    def answer(name: str, split: str) -> object:
        asked.append((name, split))
        return held

    monkeypatch.setattr(datasets, "load_dataset", answer)
    found = ingest(SourceSettings(dataset="us/eggs", dataset_split="validation", limit=1))
    assert [(one.text, one.source) for one in found.prompts] == [("One egg", "us/eggs")]
    assert asked == [("us/eggs", "validation")]


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("manifest.json", read_manifest),
        ("audit/audit.json", read_audit),
        ("evidence.json", read_reliability),
        ("results.json", lambda folder: read_bench_run(folder, "a", {})),
    ],
)
def test_a_file_of_a_run_nested_without_end_is_one_line(
    name: str, read: Callable[[Path], object], tmp_path: Path
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b'{"a": ' + b"[" * 100_000)
    with pytest.raises(UserError) as refusal:
        read(tmp_path)
    assert Path(name).name in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("command", ["stats", "validate"])
def test_a_command_on_a_missing_file_exits_with_2(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, str(tmp_path / "absent.jsonl")]) == 2
    printed = capsys.readouterr().err
    assert "absent.jsonl" in printed
    assert len(printed.splitlines()) == 1
