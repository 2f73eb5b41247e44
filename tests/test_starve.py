"""No room, no rights, no clock, no peace: a run ends in one line and the next one completes it.

A full disk is played by a limit on the size of files, at many sizes, and by refusing each write of
a file in turn. After each of them every file is whole or absent, and the rerun's files are those of
an undisturbed run, byte for byte.
"""

from __future__ import annotations

import errno
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from endpoint import Endpoint, behave, identity_of, write_config
from loopback import Fault, Loopback
from misalign_bench.cli.main import main
from misalign_bench.cli.progress import Progress
from misalign_bench.journal import folder as run_folder
from misalign_bench.journal.store import Journal
from misalign_bench.llm.retry import Backoff, parse_retry_after

pytestmark = pytest.mark.attack

Captured = pytest.CaptureFixture[str]
POSIX = pytest.mark.skipif(os.name == "nt", reason="needs POSIX limits, signals or rights")
BUILT = ("*.parquet", "README.md", "stats.csv", "croissant.json")
SIZES = (0, 500, 3_000, 5_000, 20_000, 60_000, 100_000, 150_000, 250_000, 400_000)


@dataclass(frozen=True)
class Undisturbed:
    """What a build, a bench and a report leave when nothing happens to them."""

    endpoint: Endpoint
    config: Path
    built: Path
    benched: Path

    def build(self, out: Path) -> list[str]:
        return ["build", str(self.config), "--out", str(out), "--quiet"]

    def bench(self, out: Path) -> list[str]:
        target = f"openai/judge-two@{self.endpoint.url}"
        typed = ["bench", str(self.built), "--target", target, "--split", "all", "--quiet"]
        return [*typed, "--epochs", "1", "--out", str(out)]

    def report(self, out: Path) -> list[str]:
        return ["report", str(self.built), str(self.benched), "--out", str(out)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Undisturbed]:
    folder = tmp_path_factory.mktemp("undisturbed")
    with Endpoint(Loopback(behave)) as endpoint:
        config = write_config(folder, endpoint.url, 4)
        held = Undisturbed(endpoint, config, folder / "built", folder / "benched")
        assert main(held.build(held.built)) == 0
        assert main(held.bench(held.benched)) == 0
        yield held


def files(folder: Path) -> dict[str, bytes]:
    """What a data set consists of, and the verdicts of a bench, by place in the run folder."""
    found = {path for pattern in BUILT for path in folder.rglob(pattern) if path.is_file()}
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def numbers(folder: Path) -> dict[str, Any]:
    """The results of a bench without what the run itself took."""
    table: dict[str, Any] = json.loads((folder / "results.json").read_text())
    del table["totals"]
    return table


def all_whole(folder: Path) -> None:
    """Every file can be read to its end, and no half file lies beside it."""
    for path in folder.rglob("*.parquet"):
        pq.read_table(path)
    for path in [*folder.rglob("*.json")]:
        json.loads(path.read_text())
    for path in folder.glob("*.html"):
        assert path.read_text().rstrip().endswith("</html>")
    names = [path.name for path in folder.rglob("*")]
    assert [name for name in names if re.search(r"partial|\.part|unfinished", name)] == []


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """What a process sees like a full disk: no file may grow beyond so many bytes."""
    resource = pytest.importorskip("resource", reason="this system has no limit on files")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def one_line(capsys: Captured) -> str:
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(r"misalign-bench: [^\n]+\n", shown.err), shown.err
    return shown.err


@POSIX
def test_a_disk_that_fills_at_any_moment_of_a_build_costs_no_answer(
    undisturbed: Undisturbed, tmp_path: Path, capsys: Captured
) -> None:
    server = undisturbed.endpoint.server
    before, ended = server.calls, []
    for size in SIZES:
        with no_file_beyond(size):
            ended.append(main(undisturbed.build(tmp_path)))
        if ended[-1] != 0:
            assert "run the same command again" in one_line(capsys)
        all_whole(tmp_path)
    assert ended[:5] == [3] * 5
    assert main(undisturbed.build(tmp_path)) == 0
    assert files(tmp_path) == files(undisturbed.built)
    asked = [identity_of(body) for body in server.bodies[before:]]
    lost = len(asked) - len(set(asked))
    assert lost <= (len(ended) - ended.count(0)) * server.most_in_flight


def count_writes(typed: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """How many files of its folder a command writes."""
    count = 0
    sync = run_folder._sync

    def counted(path: Path) -> None:
        nonlocal count
        count += 1
        sync(path)

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "_sync", counted)
        assert main(typed) == 0
    return count


@pytest.mark.parametrize("command", ["build", "bench"])
def test_a_disk_that_is_full_at_any_write_of_a_file_leaves_each_whole_or_absent(
    command: str,
    undisturbed: Undisturbed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    finished = undisturbed.built if command == "build" else undisturbed.benched
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    typed = getattr(undisturbed, command)(out)
    writes = count_writes(typed, monkeypatch)
    ended: list[int] = []
    for number in range(1, writes + 1):
        left = number

        def full(path: Path) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise OSError(errno.ENOSPC, "No space left on device", str(path))

        for path in [*out.glob("data/**/*.parquet"), *out.glob("*.json"), *out.glob("*.parquet")]:
            if number % 2:
                path.unlink()
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(run_folder, "_sync", full)
            ended.append(main(typed))
        all_whole(out)
        whole, held = files(finished), files(out)
        if ended[-1] == 0:
            # The manifest of the calls is written again with the next stage.
            assert held == whole
        else:
            assert "the disk is full. Free some space" in one_line(capsys)
            assert all(content == whole[name] for name, content in held.items())
    assert ended.count(3) == writes - 1
    assert main(typed) == 0
    assert files(out) == files(finished)
    if command == "bench":
        assert numbers(out) == numbers(finished)


@POSIX
@pytest.mark.parametrize(("size", "old"), [(0, None), (100_000, b"<html>earlier</html>")])
def test_a_page_is_whole_or_absent_on_a_full_disk(
    size: int, old: bytes | None, undisturbed: Undisturbed, tmp_path: Path, capsys: Captured
) -> None:
    page = tmp_path / "page.html"
    if old is not None:
        page.write_bytes(old)
    capsys.readouterr()
    with no_file_beyond(size):
        assert main(undisturbed.report(page)) == 3
    assert "run the same command again" in one_line(capsys)
    assert (page.read_bytes() if page.exists() else None) == old
    assert [path for path in tmp_path.iterdir() if path != page] == []
    assert main(undisturbed.report(page)) == 0
    all_whole(tmp_path)


def jumping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the clock years back or ahead between any two looks at it."""
    chance, now = random.Random(11), time.time

    def jumped() -> float:
        return now() + chance.choice([-1, 1]) * chance.random() * 9e8

    class Jumping(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Jumping:
            return cls.fromtimestamp(jumped(), tz)

    monkeypatch.setattr(time, "time", jumped)
    monkeypatch.setattr("misalign_bench.journal.manifest.datetime", Jumping)
    monkeypatch.setattr("misalign_bench.llm.retry.datetime", Jumping)


def test_a_clock_that_jumps_changes_no_byte_and_no_call(
    undisturbed: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jumping(monkeypatch)
    server = undisturbed.endpoint.server
    before = server.calls
    build, bench = tmp_path / "build", tmp_path / "bench"
    assert main(undisturbed.build(build)) == 0
    assert main(undisturbed.bench(bench)) == 0
    asked = server.calls - before
    assert main(undisturbed.build(build)) == main(undisturbed.bench(bench)) == 0
    assert server.calls - before == asked
    assert files(build) == files(undisturbed.built)
    assert files(bench) == files(undisturbed.benched)
    assert numbers(bench) == numbers(undisturbed.benched)
    with Journal.open(build / "journal.sqlite", read_only=True) as journal:
        totals = journal.totals()
        # How long a call took is read from a clock that nobody sets.
        assert all(0 <= one.seconds < 60 for one in totals.values())
        assert len({round(one.created) for one in journal.entries()}) > 5


def test_a_clock_that_jumps_makes_no_retry_wait_for_years(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jumping(monkeypatch)
    for days in (-9_000, -1, 0, 1, 9_000):
        date = datetime.now(timezone.utc) + timedelta(days=days)
        header = date.strftime("%a, %d %b %Y %H:%M:%S GMT")
        for _ in range(20):
            asked = parse_retry_after(header)
            assert asked is not None
            assert asked >= 0
            assert 0 <= Backoff().delay(3, asked) <= 150


def test_a_clock_that_jumps_does_not_confuse_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    jumping(monkeypatch)
    with Progress(quiet=True).stage("respond", total=40) as stage:
        for _ in range(20):
            now[0] += 1.0
            stage.advance()
        assert stage.status() == "20 of 40, 1/s, 20 s left"


def test_a_second_process_on_a_run_folder_is_refused_and_disturbs_nothing(
    tmp_path: Path, capsys: Captured
) -> None:
    with Endpoint(Loopback(behave, fault_for=lambda body: Fault(delay=0.02))) as endpoint:
        config, out, server = (
            write_config(tmp_path, endpoint.url),
            tmp_path / "out",
            endpoint.server,
        )
        typed = ["build", str(config), "--out", str(out), "--quiet"]
        first = subprocess.Popen(
            [sys.executable, "-m", "misalign_bench.cli.main", *typed],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        while server.calls < 5 and first.poll() is None:
            time.sleep(0.002)
        others = (typed, ["bench", str(config), "--target", "simulated/judge", "--out", str(out)])
        capsys.readouterr()
        assert main(others[0]) == 2
        assert one_line(capsys) == (
            f"misalign-bench: {out}: another process (number {first.pid}) works in this run"
            " folder. Wait until it ends, or name another folder\n"
        )
        assert main(["repair", str(out)]) == 2
        assert "works in this run folder" in one_line(capsys)
        assert main(["report", str(out), "--out", str(tmp_path / "page.html")]) == 2
        assert "its run has written no result yet; its status is running" in one_line(capsys)
        _, err = first.communicate(timeout=60)
        assert (first.returncode, err) == (0, "")
        assert server.calls == len({identity_of(body) for body in server.bodies})
        assert main(typed) == 0


NO_RIGHTS = """
import ctypes, os, sys
c = ctypes.CDLL(None)
if os.geteuid() == 0 and c.prctl(24, 1, 0, 0, 0) != 0:  # drop CAP_DAC_OVERRIDE
    sys.exit(77)
os.execv(sys.executable, [sys.executable, "-m", "misalign_bench.cli.main", *sys.argv[1:]])
"""


@POSIX
def test_a_run_in_a_folder_that_may_not_be_written_can_be_reported_on(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("giving up the superuser's rights is known here for Linux only")
    out = tmp_path / "benched"
    shutil.copytree(undisturbed.benched, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    report = ["report", str(out), "--out", str(tmp_path / "results.md")]
    wanted = ((report, 0), (["repair", str(out)], 2))
    out.chmod(0o555)
    (out / ".lock").chmod(0o444)
    (out / "journal.sqlite").chmod(0o444)
    try:
        for typed, code in wanted:
            ran = subprocess.run(
                [sys.executable, "-c", NO_RIGHTS, *typed],
                check=False,
                capture_output=True,
                text=True,
                timeout=60,
            )
            if ran.returncode == 77:
                pytest.skip("the superuser's rights cannot be given up here")
            assert ran.returncode == code, ran.stderr
            if code:
                assert "it may not be written. Choose a folder" in ran.stderr
                assert ran.stderr.count("\n") == 1
    finally:
        out.chmod(0o755)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
