"""Files of others: read with limits, refused in one line, never run, never outside their place."""

from __future__ import annotations

import ast
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from misalign_bench.build.classify import head
from misalign_bench.build.readers import read_table
from misalign_bench.errors import UserError
from misalign_bench.suites.savacu import load_suite

pytestmark = pytest.mark.attack

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "misalign_bench"
MODULES = sorted(SOURCE.rglob("*.py"))
DAMAGED = 1_500
"""Damaged files of each of two seeds in CI; making and reading all takes about 20 seconds."""


@pytest.fixture(scope="module", autouse=True)
def fuzzing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[subprocess.Popen[str]]]:
    """The short form of ``benchmarks/torture/fuzz.py``, beside the tests of this file."""
    script = ROOT / "benchmarks" / "torture" / "fuzz.py"
    keep = tmp_path_factory.mktemp("damaged")
    typed = ["--cases", str(DAMAGED), "--minutes", "4", "--keep", str(keep), "--json"]
    with ExitStack() as ended:
        running = []
        for seed in (7, 8):
            process = subprocess.Popen(
                [sys.executable, str(script), *typed, "--seed", str(seed)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            ended.callback(_end, process)
            running.append(process)
        yield running


def _end(process: subprocess.Popen[str]) -> None:
    with process:
        if process.poll() is None:
            # It has a child of its own.
            os.killpg(process.pid, signal.SIGKILL)


def test_every_yaml_of_others_is_read_within_limits() -> None:
    """These read only what the package ships; all else goes through ``read_yaml``."""
    shipped = {
        *("report/page_data.py", "llm/prices.py", "llm/weights.py", "prompts/loader.py"),
        *("build/policy.py", "judge/guardrail/categories.py", "taxonomy/loader.py"),
    }
    loading = {
        path.relative_to(SOURCE).as_posix()
        for path in MODULES
        for _, name in _calls(path)
        if name.startswith("yaml.") and "load" in name
    }
    assert loading <= shipped


def test_json_of_others_is_read_where_its_depth_is_an_error_too() -> None:
    """These ask for more than ``read_json``, or read what this package or its engine wrote."""
    allowed = {
        *("json_text.py", "bench/results_file.py", "llm/openai.py", "llm/structured.py"),
        *("build/classify/embedding.py", "judge/calibration.py", "llm/embedded.py"),
        "suites/lm_eval_scores.py",
    }
    loading = {
        path.relative_to(SOURCE).as_posix()
        for path in MODULES
        for _, name in _calls(path)
        if name in ("json.loads", "json.load")
    }
    assert loading == allowed


def test_no_setting_names_a_template() -> None:
    from misalign_bench.config import RunSettings

    def names(schema: Any) -> set[str]:
        if isinstance(schema, list):
            return set().union(*map(names, schema))
        if not isinstance(schema, dict):
            return set()
        return set(schema.get("properties", {})).union(*map(names, schema.values()))

    found = names(RunSettings.model_json_schema())
    assert {"draws", "method"} <= found
    assert not [name for name in found if "template" in name]


@cache
def _calls(path: Path) -> list[tuple[int, str]]:
    """Every function that a module calls, by its dotted name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        (node.lineno, ast.unparse(node.func))
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    ]


def test_nothing_unpickles_runs_or_unpacks_what_it_reads() -> None:
    forbidden = {
        "eval",
        "exec",
        "compile",
        "__import__",
        "os.system",
        "os.popen",
        "shutil.unpack_archive",
    }
    endings = ("extractall", "extract", "from_pickle", "read_pickle", "joblib.load", "torch.load")
    found = []
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        assert "pickle" not in text.replace("allow_pickle=False", "").replace("pickles", ""), path
        assert "allow_pickle=True" not in text
        found += [
            (path.name, line, name)
            for line, name in _calls(path)
            if name in forbidden or name.endswith(endings)
        ]
    assert found == []


def test_every_array_file_is_loaded_without_pickles() -> None:
    loads = 0
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "numpy.load"):
                loads += 1
                given_ = {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert given_.get("allow_pickle") == "False", path
    assert loads >= 1


class Planted:
    """Runs when somebody unpickles it."""

    def __reduce__(self) -> Any:
        return exec, ("import pathlib; pathlib.Path('ran').touch()",)


def test_a_pickle_in_an_array_file_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "head.npz", manifest=np.array([Planted()], dtype=object))
    (tmp_path / "bare.npz").write_bytes(pickle.dumps(Planted()))
    for name in ("head.npz", "bare.npz"):
        with pytest.raises(UserError, match="is no head that can be used"):
            head.load(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def _npy(shape: bytes) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, np.zeros(3, "|u1"))
    return out.getvalue().replace(b"(3,), ", b"(%b,), " % shape)


@pytest.mark.parametrize("shape", [b"999999999999999", b"9" * 40, b"-3", b"99999999"])
def test_an_array_that_promises_too_much_is_refused(tmp_path: Path, shape: bytes) -> None:
    path = tmp_path / "head.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name in head._ARRAYS:
            archive.writestr(f"{name}.npy", _npy(shape))
    with pytest.raises(UserError, match="is no head that can be used"):
        head.load(path)


def test_an_archive_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number in range(9):
            archive.writestr(f"{number}.npy", bytes(60_000_000))
    assert path.stat().st_size < 10_000_000
    with pytest.raises(UserError, match="unpacks to over"):
        head.load(path)


def test_a_member_that_leaves_its_archive_is_written_nowhere(tmp_path: Path) -> None:
    inside = tmp_path / "deep" / "inside"
    inside.mkdir(parents=True)
    with zipfile.ZipFile(inside / "head.npz", "w") as archive:
        archive.writestr("../../manifest.npy", _npy(b"3"))
    with pytest.raises(UserError):
        head.load(inside / "head.npz")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["deep", "head.npz", "inside"]


def test_a_path_of_a_configuration_is_read_and_never_a_place_to_write(tmp_path: Path) -> None:
    """What a run writes lies under ``--out``; a configuration names only what is read."""
    from misalign_bench.config import RunSettings

    def paths(schema: Any, at: str = "") -> set[str]:
        if isinstance(schema, dict):
            named = (
                {at} if at.rpartition(".")[2] in ("path", "out", "folder", "file", "dir") else set()
            )
            return named.union(*(paths(part, f"{at}.{key}") for key, part in schema.items()))
        return set()

    found = {name.rpartition("properties.")[2] for name in paths(RunSettings.model_json_schema())}
    assert found == {"path"}


@pytest.mark.parametrize("split", ["../../outside", "/etc", "a/b", "..\\x", "\x00"])
def test_a_split_of_a_file_is_a_word_and_never_a_path(split: str, tmp_path: Path) -> None:
    row = {"prompt": "Hello?", "response": "Yes.", "misaligned": True, "split": split}
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps(row) + "\n")
    (item,) = load_suite(path, ()).items
    assert item.split == split
    with pytest.raises(UserError):
        load_suite(tmp_path, (split,))


# --- tables

LATE = 2**62


def _odd() -> dict[str, Any]:
    raw = pa.array([b"\xff\xfe"], pa.binary())
    return {
        "far date": pa.array([LATE], pa.int64()).cast(pa.timestamp("us")),
        "no such zone": pa.array([1], pa.int64()).cast(pa.timestamp("us", "Nowhere/City")),
        "far day": pa.array([2**31 - 1], pa.int32()).cast(pa.date32()),
        "broken text": pa.Array.from_buffers(pa.string(), 1, raw.buffers()),
        "long time": pa.array([LATE], pa.int64()).cast(pa.duration("s")),
    }


@pytest.mark.parametrize("name", _odd())
def test_values_that_python_does_not_know_are_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"prompt": ["One egg"], "violated": _odd()[name]}), path)
    for read in (read_table, lambda path: load_suite(path, ())):
        with pytest.raises(UserError) as refusal:
            read(path)
        assert "a.parquet" in str(refusal.value)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("rows", [3_000, 12_000_000])
def test_a_small_parquet_file_that_unpacks_to_gigabytes_is_refused(
    rows: int, tmp_path: Path
) -> None:
    path = tmp_path / "bomb.parquet"
    text = "x" * 1_000_000 if rows < 10_000 else ""
    kind = pa.dictionary(pa.int32(), pa.string())
    held = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), [text]).cast(kind)
    pq.write_table(pa.table({"prompt": held}), path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 2_000_000
    with pytest.raises(UserError, match="unpacks to over 100 times"):
        read_table(path)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,prompt\na,b\n")
    (tmp_path / "b.csv").write_text("prompt,,\na,,\n")
    two = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["prompt", "prompt"])
    pq.write_table(two, tmp_path / "a.parquet")
    for name in ("a.csv", "a.parquet"):
        with pytest.raises(UserError, match="two columns 'prompt'"):
            read_table(tmp_path / name)
    assert [row["prompt"] for row in read_table(tmp_path / "b.csv").rows] == ["a"]


tables = st.binary(max_size=80) | st.text(
    st.sampled_from("prompt,\"'\n\r\0a=é\ud800"), max_size=60
).map(lambda text: text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".txt", ".parquet"])
@settings(max_examples=60, deadline=None)
@given(content=tables)
def test_no_bytes_break_a_reader(
    ending: str, content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"drawn{ending}"
    path.write_bytes(content)
    try:
        table = read_table(path)
    except UserError:
        return
    assert all(set(row) <= set(table.columns) for row in table.rows)


def test_damaged_files_crash_hang_or_fill_no_reader(fuzzing: list[subprocess.Popen[str]]) -> None:
    for process in fuzzing:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, out[-2_000:] + err[-2_000:]
        found = json.loads(out)
        assert found["failures"] == []
        assert found["files"] == DAMAGED
        assert found["peak_mebibytes"] < 1024
        for kind, held in found["kinds"].items():
            assert held["read"], kind
            assert held["refused"], kind
