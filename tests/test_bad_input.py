"""What a person or the outside world does wrong is one clear line, and the run folder resumes.

Exit code 2 is input that a person must mend, 3 the outside world or a spent budget, 130 an
interruption (contract, section 5). Every case goes through the real command line.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from endpoint import Endpoint, behave, identity_of, write_config, write_prompts
from loopback import Loopback
from misalign_bench.cli.main import main
from misalign_bench.journal.store import Journal

Captured = pytest.CaptureFixture[str]

KEY = "MISALIGN_BENCH_TEST_KEY"
PROGRAM = [sys.executable, "-m", "misalign_bench.cli.main"]
BECOME = "os.execv(sys.executable,[sys.executable,'-m','misalign_bench.cli.main',*sys.argv[2:]])"
NO_RIGHTS = (
    "import ctypes,os,sys;c=ctypes.CDLL(None);hasattr(c,'prctl') and c.prctl(24,1,0,0,0);" + BECOME
)
"""Gives up the capability by which root writes what it may not (24, 1: drop CAP_DAC_OVERRIDE)."""
LIMITED = (
    "import resource,os,sys;n=int(sys.argv[1]);"
    "resource.setrlimit(resource.RLIMIT_FSIZE,(n,n));" + BECOME
)
"""No file may grow beyond so many bytes, which a program sees like a full disk."""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(Loopback(behave)) as running:
        yield running


@pytest.fixture
def config(endpoint: Endpoint, tmp_path: Path) -> Path:
    return write_config(tmp_path, endpoint.url)


@pytest.fixture(scope="module")
def data_set(endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    return resumes(write_config(folder, endpoint.url), folder / "savacu")


def refused(code: int, capsys: Captured, *typed: object) -> str:
    """The one line that a command ends with."""
    capsys.readouterr()
    assert main([*map(str, typed), "--quiet"]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    return one_line(shown.err)


def one_line(shown: str) -> str:
    assert re.fullmatch(r"misalign-bench: [^\n]+\n", shown)
    return shown


def resumes(config: Path, out: Path, *more: str) -> Path:
    """The same command, now that what was wrong is mended, comes to its end."""
    assert main(["build", str(config), "--out", str(out), "--quiet", *more]) == 0
    assert json.loads((out / "manifest.json").read_text())["status"] == "done"
    with Journal.open(out / "journal.sqlite", read_only=True) as journal:
        assert journal.count() > 0
    return out


def set_in(config: Path, **changes: Any) -> Path:
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | changes))
    return config


def test_a_missing_configuration_is_one_line(tmp_path: Path, capsys: Captured) -> None:
    line = refused(2, capsys, "build", tmp_path / "none.yaml", "--out", tmp_path / "out")
    assert "none.yaml: no such configuration" in line


def test_a_missing_file_of_prompts_is_one_line_and_resumes(config: Path, capsys: Captured) -> None:
    out, prompts = config.parent / "out", config.parent / "prompts.csv"
    prompts.rename(config.parent / "elsewhere.csv")
    assert "there is no such file" in refused(2, capsys, "build", config, "--out", out)
    write_prompts(prompts, 2)
    resumes(config, out)


def test_a_table_without_a_prompt_column_names_its_columns_and_resumes(
    config: Path, capsys: Captured
) -> None:
    out, prompts = config.parent / "out", config.parent / "prompts.csv"
    prompts.write_text(prompts.read_text().replace("prompt", "text", 1))
    line = refused(2, capsys, "build", config, "--out", out)
    assert "no column 'prompt' (columns: text)" in line
    assert "--prompt-column" in line
    resumes(config, out, "--prompt-column", "text")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"prompt\nWhat is \xff this?\n", "is not UTF-8 (line 2, byte 15 of the file)"),
        ("a.jsonl", b'{"prompt": "\xff"}\n', "is not UTF-8"),
        ("a.csv", b"", "is empty"),
        ("a.csv", b"prompt\n", "is empty"),
        ("a.jsonl", b"", "is empty"),
        ("a.parquet", b"", "is empty"),
        ("a.parquet", b"PAR1 and then nothing", "is not Parquet, or broken"),
        ("a.jsonl", b"{\n", "line 1 is not JSON"),
        ("a.csv", b"prompt\nHello\0there\n", "NUL byte"),
        ("a.pdf", b"%PDF", "is of no known kind"),
    ],
)
def test_a_broken_or_empty_file_is_one_line_and_resumes(
    name: str, content: bytes, said: str, config: Path, capsys: Captured
) -> None:
    out = config.parent / "out"
    broken = config.parent / name
    broken.write_bytes(content)
    assert said in refused(2, capsys, "build", config, "--out", out, "--source", broken)
    resumes(config, out)


def test_a_prompt_of_two_megabytes_is_dropped_as_too_long(config: Path) -> None:
    with (config.parent / "prompts.csv").open("a") as file:
        file.write("Why is it so? " * 150_000 + "\n")
    out = resumes(config, config.parent / "out")
    dropped = pq.read_table(out / "dropped.parquet").to_pylist()
    assert [row["stage"] for row in dropped if row["reason"] == "too_long"] == ["ingest"]


def test_nothing_but_a_prompt_of_two_megabytes_is_one_line(config: Path, capsys: Captured) -> None:
    (config.parent / "prompts.csv").write_text("prompt\n" + "Why is it so? " * 150_000 + "\n")
    line = refused(2, capsys, "build", config, "--out", config.parent / "out")
    assert "no usable prompt in it. All 1 rows are dropped: 1 too_long" in line


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sed": 7}, "sed: unknown key"),
        ({"respond": {"draw": 3}}, "respond.draw: unknown key"),
        ({"respond": {"draws": 0}}, "respond.draws: "),
        ({"split": {"train": 0.8, "validation": 0.8, "test": 0.8}}, "the shares must sum to 1"),
    ],
)
def test_a_wrong_setting_is_one_line(
    change: dict[str, Any], said: str, config: Path, capsys: Captured
) -> None:
    line = refused(2, capsys, "build", set_in(config, **change), "--out", config.parent / "out")
    assert said in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"seed: [", "not valid YAML"),
        (b"- prompts.csv", "a configuration is a table of settings"),
        (b"", "a configuration is a table of settings"),
        (b"seed: \xff", "cannot be read"),
    ],
)
def test_what_is_no_configuration_is_one_line(
    text: bytes, said: str, config: Path, capsys: Captured
) -> None:
    config.write_bytes(text)
    assert said in refused(2, capsys, "build", config, "--out", config.parent / "out")


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--limit", "-1", "source: limit"),
        ("--limit", "0", "source: limit"),
        ("--max-calls", "-1", "budget: max_calls"),
        ("--max-cost", "nan", "budget: max_cost"),
    ],
)
def test_an_option_out_of_range_is_one_line(
    option: str, value: str, said: str, config: Path, capsys: Captured
) -> None:
    line = refused(2, capsys, "build", config, "--out", config.parent / "out", option, value)
    assert said in line


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("nonsense/x", "unknown model 'nonsense/x'"),
        ("embedded/nope", "no weights named 'nope'"),
        ("simulated/nope", "no behaviour 'nope'"),
        ("openai/x@http://[::1", "is no URL"),
    ],
)
@pytest.mark.parametrize("command", ["build", "bench"])
def test_an_unknown_model_is_one_line(
    command: str, model: str, said: str, config: Path, data_set: Path, capsys: Captured
) -> None:
    typed: list[object] = ["bench", data_set, "--split", "all", "--target", model]
    if command == "build":
        roles = yaml.safe_load(config.read_text())["roles"] | {"evaluator": model}
        typed = ["build", set_in(config, roles=roles)]
    assert said in refused(2, capsys, *typed, "--out", config.parent / "out")


def test_a_model_that_the_server_lacks_is_one_line_and_resumes(
    tmp_path: Path, capsys: Captured
) -> None:
    models = ["classifier", "generator-one", "generator-two"]
    with Endpoint(Loopback(behave, models=models)) as endpoint:
        config = write_config(tmp_path, endpoint.url)
        line = refused(3, capsys, "build", config, "--out", tmp_path / "out")
        assert "unknown_model: HTTP 404: The model judge does not exist" in line
        assert endpoint.server.models is not None
        endpoint.server.models.add("judge")
        resumes(config, tmp_path / "out")


def test_an_endpoint_that_cannot_be_reached_is_one_line_and_resumes(
    tmp_path: Path, capsys: Captured
) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    config = write_config(tmp_path, f"http://127.0.0.1:{port}/v1")
    line = refused(3, capsys, "build", config, "--out", tmp_path / "out")
    assert f"http://127.0.0.1:{port}/v1: the server cannot be reached" in line
    with Endpoint(Loopback(behave, port=port)):
        resumes(config, tmp_path / "out")


def test_a_wrong_key_is_one_line_that_names_the_variable_and_resumes(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, "a-mistyped-key")
    with Endpoint(Loopback(behave, key="the-right-key")) as endpoint:
        config = write_config(tmp_path, endpoint.url)
        line = refused(3, capsys, "build", config, "--out", tmp_path / "out")
        assert (
            f"unauthorized: HTTP 401: Incorrect API key provided: [redacted]; the key is the "
            f"one in {KEY}" in line
        )
        assert "a-mistyped-key" not in line
        monkeypatch.setenv(KEY, "the-right-key")
        resumes(config, tmp_path / "out")


def test_a_spent_budget_is_one_line_and_no_call_is_paid_twice(
    tmp_path: Path, capsys: Captured
) -> None:
    out = tmp_path / "out"
    with Endpoint(Loopback(behave)) as endpoint:
        config, server = write_config(tmp_path, endpoint.url), endpoint.server
        line = refused(3, capsys, "build", config, "--out", out, "--max-calls", "3")
        assert "the budget is spent: 3 calls made, max_calls of 3" in line
        with Journal.open(out / "journal.sqlite", read_only=True) as journal:
            assert journal.count() == server.calls == 3
        resumes(config, out, "--max-calls", "1000")
        assert len({identity_of(body) for body in server.bodies}) == server.calls


@pytest.mark.parametrize("command", ["build", "bench"])
def test_a_cost_bound_on_a_model_without_a_price_is_one_line(
    command: str, config: Path, data_set: Path, endpoint: Endpoint, capsys: Captured
) -> None:
    target = ["--split", "all", "--target", f"openai/judge-two@{endpoint.url}"]
    typed = ["build", config] if command == "build" else ["bench", data_set, *target]
    line = refused(2, capsys, *typed, "--out", config.parent / "out", "--max-cost", "5")
    assert "max_cost is set, but the price of openai/" in line
    assert "max_calls" in line


def test_a_file_in_the_way_of_the_run_folder_is_one_line(config: Path, capsys: Captured) -> None:
    for out in (config, config / "out"):
        assert "a file is in the way" in refused(2, capsys, "build", config, "--out", out)


def test_a_run_folder_that_may_not_be_written_is_one_line_and_resumes(config: Path) -> None:
    out = config.parent / "out"
    out.mkdir(mode=0o555)
    for place in (out, out / "inside"):
        line = one_line(run_as(NO_RIGHTS, "", config, place, 2))
        assert "it may not be written. Choose a folder that exists and that you may" in line
    out.chmod(0o755)
    resumes(config, out)


@pytest.mark.parametrize("most", [1_000, 20_000, 90_000])
def test_a_disk_that_takes_no_more_is_one_line_and_resumes(most: int, config: Path) -> None:
    out = config.parent / "out"
    line = one_line(run_as(LIMITED, str(most), config, out, 3))
    assert "run the same command again; what is stored so far is kept" in line
    resumes(config, out)


def test_a_full_disk_is_one_line_and_resumes(endpoint: Endpoint, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=150k", "none", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small disk cannot be mounted here: it takes root and a system with tmpfs")
    try:
        config = write_config(tmp_path, endpoint.url)
        line = one_line(run_as(LIMITED, "-1", config, disk / "out", 3))
        assert "what is stored so far is kept" in line
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        resumes(config, disk / "out")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def run_as(wrapper: str, argument: str, config: Path, out: Path, code: int) -> str:
    """What a build says that runs under other circumstances than this process."""
    command = [sys.executable, "-c", wrapper, argument, "build", str(config), "--out", str(out)]
    ran = subprocess.run(
        [*command, "--quiet"], check=False, capture_output=True, text=True, timeout=60
    )
    assert (ran.returncode, ran.stdout) == (code, "")
    return ran.stderr


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", "no such file or folder"),
        ("empty", "no data/pairs. Is it a data set folder?"),
        ("text.csv", "unknown kind of file"),
        ("bad.jsonl", "bad.jsonl:1: not valid JSON"),
        ("bare.jsonl", "bare.jsonl:1: "),
        ("bad.parquet", "cannot be read as Parquet"),
    ],
)
def test_what_is_no_data_set_is_one_line(
    name: str, said: str, endpoint: Endpoint, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.csv").write_text("prompt\n")
    (tmp_path / "bad.jsonl").write_text("{\n")
    (tmp_path / "bare.jsonl").write_text("{}\n")
    (tmp_path / "bad.parquet").write_text("PAR1")
    target = f"openai/judge-two@{endpoint.url}"
    typed = ["bench", tmp_path / name, "--target", target, "--out", tmp_path / "out"]
    assert said in refused(2, capsys, *typed)


def test_a_split_that_the_data_set_lacks_is_one_line(
    data_set: Path, endpoint: Endpoint, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "data").mkdir()
    train = "data/pairs/train-00000-of-00001.parquet"
    (tmp_path / train).parent.mkdir()
    (tmp_path / train).write_bytes((data_set / train).read_bytes())
    target = f"openai/judge-two@{endpoint.url}"
    line = refused(2, capsys, "bench", tmp_path, "--target", target, "--out", tmp_path / "out")
    assert "no split 'test' in data/pairs. There: train" in line


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let children hear Ctrl-C: what a shell runs in the background inherits a deaf ear."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_with_130_and_what_is_answered_is_not_asked_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Endpoint(Loopback(behave, delay=0.01)) as endpoint:
        config, server = write_config(tmp_path, endpoint.url, 8), endpoint.server
        process = subprocess.Popen(
            [*PROGRAM, "build", str(config), "--out", str(out), "--quiet"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        # Late enough that every module is loaded: Python lets a signal during an import end it raw.
        while server.calls < 60 and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        line = "misalign-bench: interrupted. Run the same command again to continue\n"
        assert (process.returncode, err) == (130, line)
        assert json.loads((out / "manifest.json").read_text())["status"] == "stopped"
        resumes(config, out)
        repeats = server.calls - len({identity_of(body) for body in server.bodies})
        assert repeats == 0  # calls under way were finished and stored


def test_a_damaged_journal_is_one_line_and_set_aside_the_build_goes_on(
    config: Path, capsys: Captured
) -> None:
    out = resumes(config, config.parent / "out")
    journal = out / "journal.sqlite"
    journal.write_bytes(os.urandom(9000))
    line = refused(2, capsys, "build", config, "--out", out)
    assert "journal.sqlite: it is damaged, or no journal at all. Move it away" in line
    journal.rename(out / "damaged")
    resumes(config, out)
