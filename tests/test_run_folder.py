"""The run folder: one process at a time, files whole or not at all, a manifest after any crash."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from misalign_bench.errors import OutsideWorld, UserError
from misalign_bench.journal.environment import checkout, packages
from misalign_bench.journal.folder import RunFolder
from misalign_bench.journal.manifest import read_manifest
from misalign_bench.journal.store import Attempt, Journal, Totals

SETTINGS = {"name": "savacu", "seed": 7, "respond": {"draws": 3}}
POSIX = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals, limits or permissions")
HOLDER = """
    import sys, time
    from pathlib import Path
    from misalign_bench.journal.folder import RunFolder
    folder = RunFolder.open(Path(sys.argv[1]), command=["build"], settings_dump={"seed": 7})
    folder.manifest.stage("ingest", {"kept": 3})
    print("open", flush=True)
    time.sleep(600)
"""


def start(path: Path, settings: dict[str, Any] | None = None, command: Any = "build") -> RunFolder:
    return RunFolder.open(path, command=command, settings_dump=settings or SETTINGS)


def manifest_of(path: Path) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    return body


def holder(path: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER), str(path)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == b"open"
    return process


def test_a_new_folder_is_made_with_a_manifest_that_says_running(tmp_path: Path) -> None:
    folder = start(tmp_path / "runs" / "a")
    body = manifest_of(folder.path)
    folder.close()
    assert folder.journal == tmp_path / "runs" / "a" / "journal.sqlite"
    assert (body["status"], body["finished"], body["runs"]) == ("running", None, 1)
    assert body["settings"] == SETTINGS
    assert body["seeds"] == {"run": 7}
    assert body["environment"]["packages"]["pyyaml"]
    assert body["started"].endswith("+00:00")


def test_a_second_process_is_refused_with_one_line(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        try:
            before = manifest_of(tmp_path)
            with pytest.raises(UserError) as raised:
                start(tmp_path)
            assert str(raised.value) == (
                f"{tmp_path}: another process (number {process.pid}) works in this run folder."
                " Wait until it ends, or name another folder"
            )
            assert manifest_of(tmp_path) == before
        finally:
            process.kill()


def test_the_same_process_is_refused_too_until_the_folder_is_closed(tmp_path: Path) -> None:
    first = start(tmp_path)
    with pytest.raises(UserError, match="another process"):
        start(tmp_path)
    first.close()
    first.close()
    start(tmp_path).close()


@POSIX
def test_after_a_kill_the_manifest_says_running_and_the_folder_is_free(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
    body = manifest_of(tmp_path)
    assert body["status"] == "running"
    assert body["stages"] == {"ingest": {"kept": 3}}
    with start(tmp_path) as folder:
        assert manifest_of(folder.path)["runs"] == 2


def test_a_file_in_the_way_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(
            UserError, match=r"a file is in the way\. Name another folder"
        ) as raised:
            start(path)
        assert raised.value.exit_code == 2


@POSIX
def test_a_folder_that_may_not_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    # The superuser may write anywhere, so the system's refusal is simulated.
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match="it may not be written") as raised:
        start(tmp_path / "run")
    assert raised.value.exit_code == 2


def test_a_manifest_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    for text in ('{"name": "a browser extension"}', "[]", "{", ""):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(UserError, match="no manifest of misalign-bench"):
            start(tmp_path)
        assert (tmp_path / "manifest.json").read_text() == text


def test_a_manifest_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    start(tmp_path).close()
    body = manifest_of(tmp_path) | {"format": 2, "version": "9.0"}
    (tmp_path / "manifest.json").write_text(json.dumps(body))
    with pytest.raises(UserError, match=r"misalign-bench 9\.0\. Upgrade"):
        start(tmp_path)


def test_changed_settings_are_allowed_and_the_earlier_ones_are_kept(tmp_path: Path) -> None:
    changed = SETTINGS | {"seed": 8}
    start(tmp_path).close()
    first = manifest_of(tmp_path)
    start(tmp_path, changed).close()
    start(tmp_path, changed).close()
    body = manifest_of(tmp_path)
    assert body["runs"] == 3
    assert body["settings"] == changed
    assert [one["settings_digest"] for one in body["history"]] == [first["settings_digest"]]
    assert body["history"][0]["settings"] == SETTINGS
    assert body["history"][0]["status"] == "running"
    assert body["settings_digest"] != first["settings_digest"]


def test_stages_templates_seeds_and_totals_are_recorded(tmp_path: Path) -> None:
    totals = {
        ("judge", "openai/m"): Totals(calls=2, cost=0.5),
        ("evaluator", "openai/m"): Totals(attempts=1, errors={"timeout": 1}),
    }
    with start(tmp_path) as folder:
        folder.manifest.describe(seeds={"bootstrap": 3}, templates={"judge": "1a2b"})
        folder.manifest.stage("classify", {"kept": 10, "dropped": 2}, totals)
        body = manifest_of(tmp_path)
    assert body["status"] == "running"
    assert body["seeds"] == {"run": 7, "bootstrap": 3}
    assert body["templates"] == {"judge": "1a2b"}
    assert body["stages"] == {"classify": {"kept": 10, "dropped": 2}}
    assert [(one["role"], one["calls"]) for one in body["totals"]] == [
        ("evaluator", 0),
        ("judge", 2),
    ]
    assert body["totals"][0]["errors"] == {"timeout": 1}


def test_the_journals_totals_fit_the_manifest(tmp_path: Path) -> None:
    with start(tmp_path) as folder, Journal.open(folder.journal) as journal:
        failed = Attempt("k", "openai/m", "judge", 1.0, "timeout")
        asyncio.run(journal.attempt(failed))
        asyncio.run(journal.close())
        with Journal.open(folder.journal, read_only=True) as reader:
            folder.manifest.finish("pending", "1 row waits", reader.totals())
    assert manifest_of(tmp_path)["totals"][0]["errors"] == {"timeout": 1}
    assert manifest_of(tmp_path)["status"] == "pending"


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (OutsideWorld("the budget is spent", mend="Raise it"), "stopped", "the budget is spent."),
        (UserError("no column 'prompt'"), "failed", "no column 'prompt'"),
        (KeyError("a prompt's text"), "failed", "unexpected KeyError"),
        (KeyboardInterrupt(), "stopped", "interrupted"),
    ],
)
def test_the_manifest_says_how_the_run_ended(
    tmp_path: Path, error: BaseException, status: str, reason: str
) -> None:
    with pytest.raises(type(error)), start(tmp_path):
        raise error
    body = manifest_of(tmp_path)
    assert body["status"] == status
    assert body["reason"].startswith(reason)
    assert body["finished"]


def test_a_run_that_ends_well_is_done_unless_it_said_otherwise(tmp_path: Path) -> None:
    with start(tmp_path):
        pass
    assert manifest_of(tmp_path)["status"] == "done"
    with start(tmp_path) as folder:
        folder.manifest.finish("pending", "3 rows wait for an answer")
    assert manifest_of(tmp_path)["status"] == "pending"
    assert manifest_of(tmp_path)["reason"] == "3 rows wait for an answer"


def test_no_secret_enters_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "hunter2")
    settings = {
        "seed": 1,
        "judge": {
            "model": "openai/m@https://me:hunter2@host/v1?sig=hunter2",
            "key_variable": "hunter2",
            "api-key": "hunter2",
            "headers": {"x": "hunter2"},
            "sampling": {"max_tokens": 5},
        },
    }
    command = ["misalign-bench", "--target", "openai/m@https://me:hunter2@host/v1"]
    with start(tmp_path, settings, command) as folder:
        folder.manifest.finish("stopped", "https://me:hunter2@host/v1 does not answer")
    assert "hunter2" not in (tmp_path / "manifest.json").read_text()
    judge = manifest_of(tmp_path)["settings"]["judge"]
    assert judge == {"model": "openai/m@https://host/v1", "sampling": {"max_tokens": 5}}


def test_no_absolute_path_enters_the_manifest_unless_it_was_written(tmp_path: Path) -> None:
    import misalign_bench

    run, data = tmp_path / "run", tmp_path / "data"
    shipped = Path(misalign_bench.__file__).parent / "configs" / "demo.csv"
    written = str(data / "written.csv")
    settings = {
        "resolved": str(data / "prompts.csv"),
        "inside": run / "notes.txt",
        "shipped": str(shipped),
        "written": written,
    }
    command = [str(tmp_path / "bin" / "misalign-bench"), "build", f"--prompts={written}"]
    with start(run, settings, command) as folder:
        folder.manifest.finish("failed", f"'{data}/x.csv': no such file, see http://host/a/b")
    body = manifest_of(run)
    assert body["settings"] == {
        "resolved": "../data/prompts.csv",
        "inside": "notes.txt",
        "shipped": "misalign_bench/configs/demo.csv",
        "written": written,
    }
    assert body["command"] == ["misalign-bench", "build", f"--prompts={written}"]
    assert body["reason"] == "'../data/x.csv': no such file, see http://host/a/b"
    text = (run / "manifest.json").read_text().replace(written, "")
    assert str(tmp_path) not in text
    assert str(Path.home()) + "/" not in text


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    with start(tmp_path) as folder:
        written = folder.write_atomic("data/joint/test.parquet", b"first")
        assert written == tmp_path / "data" / "joint" / "test.parquet"

        def fail(partial: Path) -> None:
            partial.write_bytes(b"half")
            raise ValueError("stopped half way")

        with pytest.raises(ValueError, match="half way"):
            folder.write_atomic("data/joint/test.parquet", fail)
        assert written.read_bytes() == b"first"
        folder.write_atomic("data/joint/test.parquet", lambda partial: partial.write_bytes(b"two"))
        assert written.read_bytes() == b"two"
        assert [file.name for file in written.parent.iterdir()] == ["test.parquet"]


@POSIX
def test_a_disk_that_takes_no_more_leaves_the_old_file(tmp_path: Path) -> None:
    script = """
        import resource, sys
        from pathlib import Path
        from misalign_bench.errors import OutsideWorld
        from misalign_bench.journal.folder import RunFolder
        with RunFolder.open(Path(sys.argv[1]), command="build", settings_dump={}) as folder:
            folder.write_atomic("stats.csv", b"old")
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
            folder.write_atomic("stats.csv", b"x" * 100_000)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert b"OutsideWorld" in done.stderr.splitlines()[-1]
    assert (tmp_path / "stats.csv").read_bytes() == b"old"
    assert manifest_of(tmp_path)["status"] == "stopped"
    assert not list(tmp_path.glob(".*.partial"))


@pytest.mark.parametrize("name", ["../outside", "/outside", "data/../../outside", "", "."])
def test_a_name_outside_the_folder_is_a_defect(tmp_path: Path, name: str) -> None:
    with start(tmp_path / "run") as folder, pytest.raises(ValueError, match="not a file of"):
        folder.write_atomic(name, b"")


def test_a_folder_without_a_manifest_has_none(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None


def test_the_git_state_is_the_projects_own_or_none(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        options = [
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@example.org",
            "-c",
            "commit.gpgsign=false",
        ]
        subprocess.run(["git", *options, *arguments], cwd=tmp_path, check=True, capture_output=True)

    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    assert checkout(package) is None
    try:
        git("init")
    except FileNotFoundError:
        pytest.skip("git is not installed")
    # A checkout that merely surrounds an installed package says nothing about it.
    assert checkout(package) is None
    git("add", "package")
    git("commit", "-m", "first")
    state = checkout(package)
    assert state is not None
    assert (len(state["commit"]), state["dirty"]) == (40, False)
    (package / "new.py").write_text("")
    changed = checkout(package)
    assert changed is not None
    assert changed["dirty"] is True


def test_dependencies_are_listed_without_those_of_the_tests() -> None:
    versions = packages()
    assert versions["pydantic"][0].isdigit()
    assert "pytest" not in versions
    assert "misalign-bench" not in versions
